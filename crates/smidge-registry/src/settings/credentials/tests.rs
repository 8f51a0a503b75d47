//! Looking logins up.
