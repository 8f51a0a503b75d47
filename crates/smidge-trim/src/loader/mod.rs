//! What a dynamic loader searches: its defaults, its cache, its configuration, its path tokens.
