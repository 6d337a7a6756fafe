//! The sign-in page: one form, no script, nothing from elsewhere.

use aws_lc_rs::digest::{SHA256, digest};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use kernel::http::{Answer, Reply};
use kernel::manifest::OperationShape;
use schemars::SchemaGenerator;
use url::Url;

const STYLE: &str = "body{font:16px/1.5 system-ui,sans-serif;margin:0;min-height:100vh;display:grid;place-items:center;\
background:#f6f4f0;color:#222}main{background:#fff;padding:2rem;border-radius:12px;width:min(22rem,90vw);\
box-sizing:border-box;box-shadow:0 1px 8px #0002}h1{font-size:1.3rem;margin:0 0 .25rem}p{margin:0 0 1rem;color:#555}\
label{display:block;font-weight:600;margin-top:.75rem}input{width:100%;box-sizing:border-box;padding:.6rem;font:inherit;\
border:1px solid #999;border-radius:6px}button{margin-top:1.25rem;width:100%;padding:.7rem;font:inherit;font-weight:600;\
border:0;border-radius:6px;background:#b3321b;color:#fff;cursor:pointer}[role=alert]{color:#9c1c0c;font-weight:600}";

const HTML: &str = "text/html; charset=utf-8";

/// What a browser is shown, or where it is sent.
pub(crate) struct Shown(pub(crate) Answer);

impl Reply for Shown {
    fn answer(self) -> Answer {
        self.0
    }
    fn describe(shape: &mut OperationShape, _: &mut SchemaGenerator) {
        shape.answers.push((303, "", None));
        shape.answers.extend([200, 400, 401, 429].map(|status| (status, HTML, None)));
    }
}

/// What the sign-in page shows.
pub(crate) struct SignIn<'a> {
    /// The sealed request; letters, digits, `-` and `_` only.
    pub(crate) request: &'a str,
    /// Who sent the person here.
    pub(crate) client: &'a str,
    /// Where the person goes afterwards.
    pub(crate) redirect_uri: &'a str,
    /// What was typed before.
    pub(crate) email: &'a str,
    /// What went wrong before.
    pub(crate) alert: Option<&'a str>,
}

impl SignIn<'_> {
    /// The page.
    pub(crate) fn answer(&self, status: u16) -> Answer {
        let alert = self.alert.map(|text| format!("<p role=\"alert\">{}</p>", escape(text))).unwrap_or_default();
        let body = format!(
            "<h1>Sign in</h1><p>to go on to {client}</p>{alert}<form method=\"post\" action=\"/login\">\
<input type=\"hidden\" name=\"request\" value=\"{request}\">\
<label for=\"email\">E-mail</label><input id=\"email\" name=\"email\" type=\"email\" value=\"{email}\" \
autocomplete=\"username\" required autofocus>\
<label for=\"password\">Password</label><input id=\"password\" name=\"password\" type=\"password\" \
autocomplete=\"current-password\" required><button>Sign in</button></form>",
            client = escape(self.client),
            request = escape(self.request),
            email = escape(self.email),
        );
        page(status, &body, &origin(self.redirect_uri))
    }
}

/// A page that only says something.
pub(crate) fn message(status: u16, text: &str) -> Answer {
    page(status, &format!("<h1>This did not work</h1><p>{}</p>", escape(text)), "")
}

fn page(status: u16, body: &str, return_to: &str) -> Answer {
    let html = format!(
        "<!doctype html><html lang=\"en\"><head><meta charset=\"utf-8\"><title>Sign in</title>\
<meta name=\"viewport\" content=\"width=device-width\"><style>{STYLE}</style></head><body><main>{body}</main></body></html>"
    );
    // Browsers apply form-action to the redirect after the form as well, so it names where that goes.
    let policy = format!(
        "default-src 'none'; style-src 'sha256-{}'; form-action 'self' {return_to}; frame-ancestors 'none'; base-uri 'none'",
        STANDARD.encode(digest(&SHA256, STYLE.as_bytes()))
    );
    Answer::new(status, HTML, html)
        .header("content-security-policy", policy)
        .header("cache-control", "no-store")
        .header("referrer-policy", "same-origin")
        .header("x-content-type-options", "nosniff")
        .header("x-frame-options", "DENY")
}

fn origin(uri: &str) -> String {
    Url::parse(uri).map(|uri| uri.origin().ascii_serialization()).unwrap_or_default()
}

fn escape(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '&' => safe.push_str("&amp;"),
            '<' => safe.push_str("&lt;"),
            '>' => safe.push_str("&gt;"),
            '"' => safe.push_str("&quot;"),
            '\'' => safe.push_str("&#39;"),
            other => safe.push(other),
        }
    }
    safe
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(email: &str) -> Answer {
        let redirect_uri = "http://127.0.0.1:4000/callback";
        SignIn { request: "abc-_", client: "a program", redirect_uri, email, alert: Some("wrong") }.answer(401)
    }

    #[test]
    fn the_form_carries_the_request_and_what_was_typed_cannot_become_markup() {
        let answer = shown("\"><script>alert('&')</script>");
        let html = std::str::from_utf8(&answer.body).unwrap();
        assert!(html.contains("name=\"request\" value=\"abc-_\""));
        assert!(html.contains("value=\"&quot;&gt;&lt;script&gt;alert(&#39;&amp;&#39;)&lt;/script&gt;\""));
        assert!(!html.contains("<script"));
        assert_eq!(answer.status, 401);
    }

    #[test]
    fn the_policy_allows_the_form_its_style_and_nothing_else() {
        let answer = shown("a@b.c");
        let header = |name: &str| answer.headers.iter().find(|(n, _)| n == name).map(|(_, v)| v.clone()).unwrap();
        let policy = header("content-security-policy");
        let style = STANDARD.encode(digest(&SHA256, STYLE.as_bytes()));
        assert_eq!(
            policy,
            format!(
                "default-src 'none'; style-src 'sha256-{style}'; form-action 'self' http://127.0.0.1:4000; \
frame-ancestors 'none'; base-uri 'none'"
            )
        );
        assert_eq!(header("cache-control"), "no-store");
        let html = std::str::from_utf8(&answer.body).unwrap();
        assert!(!html.contains("http"), "nothing comes from elsewhere");
    }
}
