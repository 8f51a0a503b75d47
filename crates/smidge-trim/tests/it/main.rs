//! Tests against real programs: the machine's own, and what its compilers make.

mod dir_tree;
mod host;
