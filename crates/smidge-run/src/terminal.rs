//! Terminals: the caller's, made raw, and the keys that detach from the program's.
