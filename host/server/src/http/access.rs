//! Who a request is from, and whether they may: bearer tokens in, 401 and 403 out.

use std::sync::Arc;

use axum::http::{HeaderMap, StatusCode, header};

use super::{error::ApiError, seldom::Seldom};
use crate::{
    access::{Authenticator, Principal, Role},
    listener::Peer,
};

/// How somebody without a token is called.
pub(crate) const ANONYMOUS: &str = "anonymous";

/// The door of every route that is not open to all.
pub(crate) struct Access {
    /// Without one nobody is asked for a token.
    authenticator: Option<Arc<dyn Authenticator>>,
    /// Whether the management routes can be reached from other machines: they then ask for a
    /// token even where nobody has one.
    management_exposed: bool,
    refused_predictions: Seldom,
}

/// A request that may not go on.
pub(crate) struct Denied {
    /// Who it is from, where the token is known and allows something else.
    pub(crate) who: Option<Arc<Principal>>,
    pub(crate) error: ApiError,
}

impl Access {
    pub(crate) fn new(
        authenticator: Option<Arc<dyn Authenticator>>,
        management_exposed: bool,
    ) -> Access {
        Access {
            authenticator,
            management_exposed,
            refused_predictions: Seldom::new(),
        }
    }

    /// Whether a token is asked of those who want what `role` allows.
    pub(crate) fn asks(&self, role: Role) -> bool {
        (role == Role::Manage && self.management_exposed)
            || self
                .authenticator
                .as_ref()
                .is_some_and(|authenticator| authenticator.asks(role))
    }

    /// Lets a request pass that may do what `role` allows, and says who it is from where that
    /// is known.
    pub(crate) fn admit(
        &self,
        role: Role,
        headers: &HeaderMap,
    ) -> Result<Option<Arc<Principal>>, Denied> {
        let presented = bearer(headers);
        let who = match (&self.authenticator, presented) {
            (Some(authenticator), Ok(Some(bearer))) => authenticator.principal(bearer),
            _ => None,
        };
        if !self.asks(role) {
            return Ok(who);
        }
        let wanted = match role {
            Role::Manage => "managing models needs a token with the role `manage`",
            Role::Predict => "predictions need a token with the role `predict`",
        };
        let error = match (&who, presented) {
            (Some(principal), _) if principal.roles.has(role) => return Ok(who),
            (Some(principal), _) => ApiError::new(
                StatusCode::FORBIDDEN,
                "forbidden",
                format!(
                    "{wanted}; this one is of `{}` and has `{}`",
                    principal.name, principal.roles
                ),
            ),
            (None, Ok(None)) => unauthorized(format!(
                "{wanted}; send it as the header `authorization: Bearer TOKEN`"
            )),
            (None, Ok(Some(_))) => unauthorized(format!(
                "{wanted}; the one sent is not known here, or no longer"
            )),
            (None, Err(wrong)) => unauthorized(format!("{wanted}; {wrong}")),
        };
        Err(Denied { who, error })
    }

    /// Says that a prediction was refused, but not each time: who sends many must not fill the
    /// disk. The metrics count them all.
    pub(crate) fn note_refused_prediction(&self, denied: &Denied, peer: Peer, request_id: &str) {
        if let Some(unsaid) = self.refused_predictions.now() {
            tracing::warn!(
                who = denied.who.as_ref().map_or(ANONYMOUS, |who| who.name.as_str()),
                %peer,
                code = denied.error.code,
                request_id,
                unsaid,
                "a prediction was refused for want of a token that allows it"
            );
        }
    }
}

fn unauthorized(message: String) -> ApiError {
    ApiError::new(StatusCode::UNAUTHORIZED, "unauthorized", message)
}

/// What stands behind `Bearer` (RFC 6750, 2.1); an error if the header is something else, said
/// without repeating it.
fn bearer(headers: &HeaderMap) -> Result<Option<&str>, &'static str> {
    let mut given = headers.get_all(header::AUTHORIZATION).iter();
    let Some(value) = given.next() else {
        return Ok(None);
    };
    if given.next().is_some() {
        return Err("the header `authorization` is there more than once; send one");
    }
    let wrong = "the header `authorization` is not of the form `Bearer TOKEN`";
    let (scheme, token) = value
        .to_str()
        .ok()
        .and_then(|text| text.split_once(' '))
        .ok_or(wrong)?;
    let token = token.trim_matches(' ');
    if !scheme.eq_ignore_ascii_case("bearer") || token.is_empty() || token.contains(' ') {
        return Err(wrong);
    }
    Ok(Some(token))
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, clippy::panic, reason = "tests fail by panicking")]

    use axum::http::HeaderValue;
    use proptest::prelude::*;

    use super::*;
    use crate::access::{Roles, Token, Tokens};

    /// What asks for some roles and knows the tokens of a text.
    struct Fixed {
        asked: Roles,
        tokens: Tokens,
    }

    impl Authenticator for Fixed {
        fn asks(&self, role: Role) -> bool {
            self.asked.has(role)
        }

        fn principal(&self, bearer: &str) -> Option<Arc<Principal>> {
            self.tokens.principal(&bearer.parse().ok()?).cloned()
        }
    }

    fn access(asked: Roles, exposed: bool) -> (Access, [Token; 3]) {
        let tokens = [(); 3].map(|()| Token::generate().unwrap());
        let text: String = ["manage m", "predict p", "manage,predict b"]
            .iter()
            .zip(&tokens)
            .map(|(line, token)| format!("{line} {}\n", token.hash()))
            .collect();
        let fixed = Fixed {
            asked,
            tokens: text.parse().unwrap(),
        };
        (Access::new(Some(Arc::new(fixed)), exposed), tokens)
    }

    fn sent(value: &str) -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.insert(header::AUTHORIZATION, HeaderValue::from_str(value).unwrap());
        headers
    }

    fn status(access: &Access, role: Role, headers: &HeaderMap) -> u16 {
        match access.admit(role, headers) {
            Ok(_) => 200,
            Err(denied) => denied.error.status.as_u16(),
        }
    }

    #[test]
    fn each_role_opens_its_own_door_and_no_other() {
        let (access, [manage, predict, both]) = access(Role::ALL.into_iter().collect(), false);
        for (token, may_manage, may_predict) in
            [(manage, 200, 403), (predict, 403, 200), (both, 200, 200)]
        {
            let headers = sent(&format!("Bearer {}", token.reveal()));
            assert_eq!(status(&access, Role::Manage, &headers), may_manage);
            assert_eq!(status(&access, Role::Predict, &headers), may_predict);
        }
        for role in Role::ALL {
            assert_eq!(status(&access, role, &HeaderMap::new()), 401);
        }
    }

    #[test]
    fn without_a_tokens_file_all_may_all_unless_management_is_exposed() {
        let open = Access::new(None, false);
        let exposed = Access::new(None, true);
        let nobody = HeaderMap::new();
        for role in Role::ALL {
            assert_eq!(status(&open, role, &nobody), 200);
        }
        assert_eq!(status(&exposed, Role::Manage, &nobody), 401);
        assert_eq!(status(&exposed, Role::Predict, &nobody), 200);
    }

    #[test]
    fn who_need_not_say_who_they_are_are_known_if_they_do() {
        let (access, [_, predict, _]) = access(Roles::NONE, false);
        let headers = sent(&format!("bearer  {}", predict.reveal()));
        let Ok(Some(who)) = access.admit(Role::Manage, &headers) else {
            panic!("the principal");
        };
        assert_eq!(who.name.as_str(), "p");
    }

    #[test]
    fn a_header_that_is_no_bearer_token_is_refused_and_not_repeated() {
        let (access, [manage, ..]) = access(Role::ALL.into_iter().collect(), false);
        let token = manage.reveal();
        let mut twice = sent(&format!("Bearer {token}"));
        twice.append(header::AUTHORIZATION, HeaderValue::from_static("Bearer x"));
        for headers in [
            sent(token),
            sent(&format!("Basic {token}")),
            sent(&format!("Bearer {token} {token}")),
            sent("Bearer "),
            sent(&format!("Bearer {}", token.to_uppercase())),
            sent(&format!("Bearer {}", token.replace("aegis_", ""))),
            twice,
        ] {
            let Err(denied) = access.admit(Role::Manage, &headers) else {
                panic!("{headers:?} was let in");
            };
            let error = denied.error;
            assert_eq!((error.status.as_u16(), error.code), (401, "unauthorized"));
            assert!(!error.message.contains("aegis_"), "{}", error.message);
        }
    }

    proptest! {
        #[test]
        fn no_header_makes_the_reader_panic_or_opens_the_door(
            value in proptest::collection::vec(any::<u8>(), 0..80)
        ) {
            let (access, _) = access(Role::ALL.into_iter().collect(), false);
            if let Ok(value) = HeaderValue::from_bytes(&value) {
                let mut headers = HeaderMap::new();
                headers.insert(header::AUTHORIZATION, value);
                prop_assert_eq!(status(&access, Role::Manage, &headers), 401);
            }
        }
    }
}
