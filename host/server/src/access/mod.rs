//! Who may do what: the roles, the principals that have them, and what tells a principal by
//! the token it presents. How a token travels in HTTP, and what a refusal looks like, is left
//! to `http/access.rs`.

mod name;
mod role;
mod token;
mod token_file;
mod tokens;

use std::sync::Arc;

pub use name::{InvalidPrincipalName, PrincipalName};
pub use role::{InvalidRoles, Role, Roles};
pub use token::{NotAToken, Token, TokenHash};
pub use token_file::{TokenFile, TokenFileError};
pub use tokens::{InvalidLine, TokenLine, Tokens};

/// Somebody who was told by a credential, and what that credential allows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Principal {
    /// Who it is, for log lines and version records.
    pub name: PrincipalName,
    /// What may be done with the credential that was presented; another of the same
    /// principal's may allow other things.
    pub roles: Roles,
}

/// What tells principals by their bearer tokens. A file of tokens does so today
/// ([`TokenFile`]); whatever else does (the tokens of an OpenID provider, say) implements this.
///
/// Both methods are called on the executor's threads, for every request that is asked for a
/// token: they must neither wait nor read from disk or network. What is needed from there (a
/// file, a provider's keys) is brought beside the requests.
pub trait Authenticator: Send + Sync + 'static {
    /// Whether those who want what `role` allows are asked for a token at all.
    fn asks(&self, role: Role) -> bool;

    /// Whose this is: what stood behind `Bearer`. `None` if it is nobody's, for whatever reason.
    fn principal(&self, bearer: &str) -> Option<Arc<Principal>>;
}
