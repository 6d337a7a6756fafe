//! Addresses, and TLS to the server: an address that demands it gets a verified server or no connection at all.

use std::path::Path;
use std::sync::Arc;

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use rustls::{ClientConfig, RootCertStore};
use tokio_postgres::Config;
use tokio_postgres::config::SslMode;
use tokio_postgres_rustls::MakeRustlsConnect;

use crate::store::error::StoreError;

/// What libpq calls looking at the certificate; the driver knows only whether TLS is wanted.
const VERIFYING: &[&str] = &["sslmode=verify-full", "sslmode=verify-ca"];

/// Reads an address. TLS is spoken where it says `sslmode=require` or stricter, or where an authority is named, and
/// always checks the certificate and the host's name: encryption towards nobody knows whom protects nothing.
pub(super) fn address(url: &str, ca: Option<&Path>) -> Result<(Config, Option<MakeRustlsConnect>), StoreError> {
    let plain = VERIFYING.iter().fold(url.to_owned(), |url, mode| url.replace(mode, "sslmode=require"));
    let mut config: Config = plain.parse().map_err(|e: tokio_postgres::Error| {
        let why = std::error::Error::source(&e).map_or_else(|| e.to_string(), ToString::to_string);
        StoreError::Refused(format!("the database address is not one: {why}"))
    })?;
    match (config.get_ssl_mode(), ca) {
        (SslMode::Disable, Some(_)) => Err(StoreError::Refused(
            "the database address says sslmode=disable, and a certificate authority is named; leave one of them out"
                .into(),
        )),
        (SslMode::Require, None) => Err(StoreError::Refused(
            "the database address demands TLS (sslmode): name the authority that vouches for the server in ca_file"
                .into(),
        )),
        (_, None) => Ok((config, None)),
        (_, Some(ca)) => {
            config.ssl_mode(SslMode::Require);
            Ok((config, Some(MakeRustlsConnect::new(client(ca)?))))
        }
    }
}

fn client(ca: &Path) -> Result<ClientConfig, StoreError> {
    let wrong = |why: String| StoreError::Refused(format!("ca_file {}: {why}", ca.display()));
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_file_iter(ca).map_err(|e| wrong(e.to_string()))? {
        let certificate = certificate.map_err(|e| wrong(e.to_string()))?;
        roots.add(certificate).map_err(|e| wrong(e.to_string()))?;
    }
    if roots.is_empty() {
        return Err(wrong("holds no certificate".to_owned()));
    }
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let versions = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let builder = versions.map_err(|e| wrong(e.to_string()))?;
    Ok(builder.with_root_certificates(roots).with_no_client_auth())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_that_demands_tls_needs_somebody_who_vouches() {
        for mode in ["require", "verify-ca", "verify-full"] {
            let refused = address(&format!("postgres://a:b@db/x?sslmode={mode}"), None).err().unwrap().to_string();
            assert!(refused.contains("ca_file"), "{refused}");
        }
        let refused = address("postgres://a:b@db/x", Some(Path::new("/nowhere"))).err().unwrap().to_string();
        assert!(refused.contains("/nowhere"), "{refused}");
        assert!(address("postgres://a:b@db/x?sslmode=disable", Some(Path::new("/nowhere"))).is_err());
        assert!(address("postgres://a:b@db/x", None).unwrap().1.is_none());
    }

    #[test]
    fn a_refusal_does_not_repeat_the_password() {
        let refused = address("postgres://a:hush@db:port/x", None).err().unwrap().to_string();
        assert!(!refused.contains("hush"), "{refused}");
    }
}
