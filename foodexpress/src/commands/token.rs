//! `token`: an access token of a demo account, for trying the API with programs of one's own.

use anyhow::Result;
use clap::Args;
use contracts::demo;
use serde_json::json;

use crate::city::DataFolder;
use crate::client::{Client, sign_in};
use crate::output::Output;

/// Print an access token of a demo account.
#[derive(Debug, Args)]
#[command(
    after_help = "Example: curl -H \"Authorization: Bearer $(foodexpress token customer0@demo.example)\" …/api/v1/cart"
)]
pub(super) struct Token {
    /// The account's address, such as `customer0@demo.example`.
    email: String,
}

impl Token {
    pub(super) async fn run(self, data: &DataFolder, out: Output) -> Result<()> {
        let guest = Client::new(data.must_run()?.gateways())?;
        let token = sign_in(&guest, &self.email, demo::PASSWORD).await?;
        out.row(&token, &json!({"email": self.email, "access_token": token}));
        Ok(())
    }
}
