//! Who asks, as the host application tells it (`IRequestActor`); handed on to hooks and logs, never trusted for access.

use std::net::IpAddr;

use serde_json::{Map, Value};

use super::error::{Error, Result};

/// Longest text of an actor in bytes: it goes to the application with every call of a hook.
const LONGEST: usize = 16 << 10;

/// The person or machine behind a request, as the embedding application knows it. What the application put there comes back to it as it was,
/// whatever its name and type.
#[derive(Debug, Clone, Default, PartialEq, serde::Serialize)]
#[serde(transparent)]
pub struct Actor(Map<String, Value>);

impl Actor {
    /// From the application's own JSON.
    ///
    /// # Errors
    /// 400 for what is no object, and for one that is too large to be handed on again and again.
    pub fn parse(text: &str) -> Result<Self> {
        if text.len() > LONGEST {
            return Err(Error::invalid(format!(
                "the actor of the request has more than {LONGEST} bytes as JSON; leave out what no hook needs"
            )));
        }
        serde_json::from_str(text)
            .map(Self)
            .map_err(|error| Error::invalid("the actor of the request is no object").with_source(error))
    }

    /// User id of the application, or of the token when the application gives none.
    pub fn user_id(&self) -> Option<&str> {
        self.text("userId")
    }

    /// The client's `User-Agent`.
    pub fn user_agent(&self) -> Option<&str> {
        self.text("userAgent")
    }

    /// The client's address when it is a well-formed one: hosts give whatever their proxy told them.
    pub fn ip_addr(&self) -> Option<IpAddr> {
        self.text("ip")?.trim().parse().ok()
    }

    /// Whether nothing is known.
    pub fn is_nobody(&self) -> bool {
        self.0.is_empty()
    }

    /// Completes what the application has not said.
    pub fn complete(&mut self, name: &str, value: Option<impl Into<String>>) {
        let said = self.0.get(name).is_some_and(|value| !value.is_null());
        if let Some(value) = value.filter(|_| !said) {
            self.0.insert(name.to_owned(), value.into().into());
        }
    }

    fn text(&self, name: &str) -> Option<&str> {
        self.0.get(name)?.as_str()
    }
}

#[cfg(test)]
mod tests {
    use super::{Actor, LONGEST};
    use serde_json::json;

    #[test]
    fn an_actor_comes_back_as_it_was() {
        let given =
            json!({ "orgId": 42, "role": "admin", "plan": { "seats": [1, 2.5, null] }, "ip": " 192.0.2.1 " });
        let mut actor = Actor::parse(&given.to_string()).unwrap();
        assert_eq!(serde_json::to_value(&actor).unwrap(), given);
        assert_eq!(actor.ip_addr(), Some("192.0.2.1".parse().unwrap()));
        actor.complete("userId", Some("bob"));
        actor.complete("orgId", Some("other"));
        actor.complete("userAgent", None::<&str>);
        assert_eq!((actor.user_id(), actor.user_agent()), (Some("bob"), None));
        assert_eq!(serde_json::to_value(&actor).unwrap()["orgId"], 42);
    }

    #[test]
    fn what_is_no_actor_is_refused() {
        let large = json!({ "note": "n".repeat(LONGEST) }).to_string();
        let deep = format!("{{\"a\":{}{}}}", "[".repeat(1000), "]".repeat(1000));
        for text in ["", "7", "[]", "null", large.as_str(), deep.as_str()] {
            let error = Actor::parse(text).unwrap_err();
            assert!(error.status() == 400 && error.message().contains("the actor"), "{error}");
        }
    }
}
