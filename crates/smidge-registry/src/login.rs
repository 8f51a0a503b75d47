//! Trying credentials.

use ureq::http::Method;

use crate::token::{self, Realm, Scopes, basic_header, wanted};
use crate::transport::{Answer, Request};
use crate::wire::{Call, Target, Wire};
use crate::{Credentials, Endpoint, Error, Login, Result, challenge};

/// Shows credentials to a registry as its first answer wants them.
pub(crate) fn log_in(wire: &Wire, endpoint: &Endpoint, credentials: &Credentials) -> Result<Login> {
    let root = Call::new(Method::GET, Target::Path("/v2/".to_owned()), &Scopes::new());
    let answer = own(wire.anonymous(endpoint, &root)?, endpoint)?;
    if answer.status != 401 {
        // A registry that wants no credentials accepts any, as Docker has it.
        return match answer.is_success() {
            true => Ok(Login {
                identity_token: None,
            }),
            false => Err(wire.refusal(endpoint, answer)),
        };
    }
    let headers = answer.headers.get_all("www-authenticate");
    let challenges = challenge::parse(headers.iter().filter_map(|value| value.to_str().ok()));
    let mut request = Request::new(Method::GET, answer.url.clone());
    let mut identity_token = None;
    if let Some(bearer) = challenges.iter().find(|c| c.scheme == "bearer") {
        let realm = Realm::of(bearer, &answer.url, &answer.label)?;
        let ask = |request: Request<'_>| wire.ask_for_token(endpoint, &request);
        let wanted = wanted(&Scopes::new(), bearer);
        let granted = realm.fetch(Some(credentials), &wanted, true, &ask);
        let granted = granted.map_err(|error| token::blame(error, endpoint, None))?;
        request.authorization = Some(granted.header());
        identity_token = granted.refresh;
    } else if challenges.iter().any(|c| c.scheme == "basic") {
        let Credentials::Basic { username, password } = credentials else {
            return Err(Error::Protocol {
                request: answer.label,
                why: "the registry wants user name and password, not a token".to_owned(),
            });
        };
        request.authorization = Some(basic_header(username, password));
    } else {
        return Err(wire.refusal(endpoint, answer));
    }
    answer.finish();
    let answer = own(wire.ask(endpoint, &request)?, endpoint)?;
    if !answer.is_success() {
        return Err(wire.refusal(endpoint, answer));
    }
    answer.finish();
    Ok(Login { identity_token })
}

/// The answer, if it is the registry's own: nobody else learns the credentials, or says whether they
/// are right.
fn own(answer: Answer, endpoint: &Endpoint) -> Result<Answer> {
    if answer.direct {
        return Ok(answer);
    }
    Err(Error::Protocol {
        request: format!("GET {}/v2/", endpoint.host),
        why: format!(
            "it sends us on to `{}`, and nobody else is told who we are",
            answer.url
        ),
    })
}

#[cfg(test)]
mod tests;
