//! Which model a request is for, by its query.

use aegis_registry::{ModelName, RegistryError, Version};
use axum::http::Uri;

use super::error::ApiError;

/// Which model a request is for, and the query that is left for the handler.
#[derive(Debug, PartialEq)]
pub(crate) struct Target {
    pub(crate) name: ModelName,
    pub(crate) version: Option<Version>,
    pub(crate) rest: Vec<(String, String)>,
}

impl Target {
    pub(crate) fn read(uri: &Uri) -> Result<Target, ApiError> {
        let mut name = None;
        let mut version = None;
        let mut rest = Vec::new();
        let query = uri.query().unwrap_or_default();
        for (key, value) in form_urlencoded::parse(query.as_bytes()) {
            let slot = match &*key {
                "identifier" => &mut name,
                "version" => &mut version,
                _ => {
                    rest.push((key.into_owned(), value.into_owned()));
                    continue;
                }
            };
            if slot.replace(value).is_some() {
                return Err(ApiError::bad_request(
                    "repeated_parameter",
                    format!("query parameter `{key}` is given twice; give it once"),
                ));
            }
        }
        let Some(name) = name else {
            return Err(ApiError::bad_request(
                "missing_identifier",
                "the query parameter `identifier` names the model: POST /predict?identifier=NAME",
            ));
        };
        Ok(Target {
            name: name.parse().map_err(RegistryError::from)?,
            version: version
                .map(|version| version.parse())
                .transpose()
                .map_err(RegistryError::from)?,
            rest,
        })
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests fail by panicking")]
    use proptest::prelude::*;

    use super::*;

    fn read(query: &str) -> Result<Target, ApiError> {
        Target::read(&format!("/predict?{query}").parse().unwrap())
    }

    #[test]
    fn the_hosts_parameters_are_taken_and_the_rest_is_the_handlers() {
        let target = read("a=1&identifier=digits&version=3&b=%20x").unwrap();
        assert_eq!(target.name.as_str(), "digits");
        assert_eq!(target.version, Some(Version::new(3).unwrap()));
        let rest = [("a", "1"), ("b", " x")].map(|(k, v)| (k.to_owned(), v.to_owned()));
        assert_eq!(target.rest, rest);
    }

    #[test]
    fn a_target_that_makes_no_sense_has_its_own_code() {
        for (query, code) in [
            ("", "missing_identifier"),
            ("identifier=", "invalid_model_name"),
            ("identifier=../etc", "invalid_model_name"),
            ("identifier=a&identifier=b", "repeated_parameter"),
            ("identifier=a&version=0", "invalid_version"),
            ("identifier=a&version=latest", "invalid_version"),
        ] {
            assert_eq!(read(query).unwrap_err().code, code, "{query}");
        }
    }

    proptest! {
        #[test]
        fn no_query_makes_the_reader_panic(query in "[ -~]{0,80}") {
            if let Ok(uri) = format!("/predict?{query}").parse::<Uri>() {
                let _ = Target::read(&uri);
            }
        }
    }
}
