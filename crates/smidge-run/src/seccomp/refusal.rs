//! What a filter refuses, in words: for messages about programs that it was in the way of.

use super::abi;
use super::profile::Profile;
use super::rule::Action;
use super::table::{CALLS, Call, OTHERS};
use crate::spec::Spec;

/// Every call that has a name here.
fn calls() -> impl Iterator<Item = &'static Call> {
    CALLS.iter().flat_map(|(_, calls)| *calls).chain(OTHERS)
}

/// The name of one of this machine's own calls.
#[must_use]
pub fn call_name(number: u32) -> Option<&'static str> {
    let column = abi::NATIVE.column;
    let is_it = |call: &&Call| u32::try_from(call.1[column]).is_ok_and(|own| own == number);
    calls().find(is_it).map(|(name, _)| *name)
}

/// Whether the filter that `spec` asks for refuses the call of this name, be it for some arguments only.
#[must_use]
pub fn refuses_call(spec: &Spec, name: &str) -> bool {
    if !spec.seccomp || spec.insecure || !calls().any(|(known, _)| *known == name) {
        return false;
    }
    if let Some(profile) = &spec.isolation.profile {
        return !profile.allows(name);
    }
    let rule = CALLS
        .iter()
        .find(|(_, calls)| calls.iter().any(|(known, _)| *known == name));
    rule.is_none_or(|(rule, _)| rule.action(spec.capabilities) != Action::Allow)
}

/// The calls that end a program under the filter of the user's, if `spec` has one, and that names them.
#[must_use]
pub fn fatal_calls(spec: &Spec) -> Vec<String> {
    let profile = spec.isolation.profile.as_ref();
    profile.map(Profile::fatal).unwrap_or_default()
}
