//! Programs of a process with threads: that they run, what is left of them, and that none outlives
//! whoever wanted it.

#![cfg(test)]

mod death;
mod life;
mod option;
mod stage;
