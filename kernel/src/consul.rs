//! What is asked of Consul, by the HTTP interface of the agent beside us: questions, and waits for a place in its story.

use std::time::Duration;

use http::{Method, StatusCode};
use serde_json::Value;

use crate::registry::{http_client, with_causes};

/// An agent.
#[derive(Clone)]
pub(crate) struct Agent {
    pub(crate) url: String,
    http: reqwest::Client,
    token: Option<String>,
}

impl std::fmt::Debug for Agent {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Agent").field("url", &self.url).finish_non_exhaustive()
    }
}

/// An answer with the place in Consul's story that it is of.
pub(crate) struct Blocked {
    pub(crate) status: StatusCode,
    pub(crate) index: u64,
    pub(crate) body: Value,
}

impl Agent {
    pub(crate) fn new(url: &str, token: Option<String>) -> Self {
        Self { url: url.trim_end_matches('/').to_owned(), http: http_client(), token }
    }

    fn request(&self, method: Method, path: &str, within: Duration) -> reqwest::RequestBuilder {
        let request = self.http.request(method, format!("{}/v1/{path}", self.url)).timeout(within);
        match &self.token {
            Some(token) => request.header("x-consul-token", token),
            None => request,
        }
    }

    /// Changes something; gives the status, which may be one of a missing thing, and the text.
    ///
    /// # Errors
    /// The way to the agent, in words.
    pub(crate) async fn put(
        &self,
        path: &str,
        body: Option<&Value>,
        within: Duration,
    ) -> Result<(StatusCode, String), String> {
        let request = self.request(Method::PUT, path, within);
        let request = match body {
            Some(body) => request.json(body),
            None => request,
        };
        let answer = request.send().await.map_err(|e| with_causes(&e))?;
        Ok((answer.status(), answer.text().await.map_err(|e| with_causes(&e))?))
    }

    /// Asks for what stands at `path`, which has a query already, as soon as it is not as of `index` any more.
    ///
    /// # Errors
    /// The way to the agent, or its refusal, in words. That there is nothing is an answer.
    pub(crate) async fn blocking(&self, path: &str, index: u64, wait: Duration) -> Result<Blocked, String> {
        // Consul adds up to a sixteenth of the wait; source: "Blocking Queries" of its HTTP interface.
        let within = wait + wait / 16 + Duration::from_secs(5);
        let path = format!("{path}&index={index}&wait={}ms", wait.as_millis());
        let answer = self.request(Method::GET, &path, within).send().await.map_err(|e| with_causes(&e))?;
        let status = answer.status();
        if !status.is_success() && status != StatusCode::NOT_FOUND {
            return Err(format!("{status}: {}", answer.text().await.unwrap_or_default()));
        }
        let index = answer.headers().get("x-consul-index").and_then(|index| index.to_str().ok()?.parse().ok());
        // 0 would ask to be answered at once for ever; source: as above.
        let index = index.unwrap_or(0).max(1);
        let text = answer.text().await.map_err(|e| with_causes(&e))?;
        let body = if status == StatusCode::NOT_FOUND { Value::Null } else { read(&text)? };
        Ok(Blocked { status, index, body })
    }
}

fn read(text: &str) -> Result<Value, String> {
    serde_json::from_str(text).map_err(|error| format!("its answer does not read: {error}; is this Consul?"))
}
