//! Tests against real programs: the machine's own, and what its compilers make.

#[cfg(test)]
mod dir_tree;
#[cfg(test)]
mod facts;
#[cfg(test)]
mod handmade;
#[cfg(test)]
mod host;
#[cfg(test)]
mod hostile;
#[cfg(test)]
mod kept;
#[cfg(test)]
mod lab;
#[cfg(test)]
mod linked;
#[cfg(test)]
mod noted;
#[cfg(test)]
mod proved;
#[cfg(test)]
mod stripped;
