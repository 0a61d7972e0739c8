// The spiffe crate at writ's Workload API; see ../../spiffe.py for what it prints.
use futures::StreamExt;
use serde_json::json;
use spiffe::WorkloadApiClient;
use std::time::Duration;
use tokio::io::{AsyncBufReadExt, BufReader};

const AUDIENCE: &str = "interop";

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

async fn once(uri: &str) -> Result<(), Box<dyn std::error::Error>> {
    let client = WorkloadApiClient::connect_to(uri).await?;
    let mut stream = Box::pin(client.stream_x509_contexts().await?);
    while let Some(context) = stream.next().await {
        let context = context?;
        let svid = context.default_svid().ok_or("no SVID")?;
        let bundles = context.bundle_set();
        let bundle = bundles.get(svid.spiffe_id().trust_domain()).ok_or("no bundle")?;
        let of = |all: &[spiffe::cert::Certificate]| all.iter().map(|c| hex(c.as_bytes())).collect::<Vec<_>>();
        println!("{}", json!({"event": "x509", "id": svid.spiffe_id().to_string(),
            "chain": of(svid.cert_chain()), "roots": of(bundle.authorities())}));
    }
    Ok(())
}

async fn watch(uri: String) {
    let mut pause = 100;
    loop {
        match once(&uri).await {
            Ok(()) => pause = 100,
            Err(e) => eprintln!("{e}"),
        }
        tokio::time::sleep(Duration::from_millis(pause)).await;
        pause = (2 * pause).min(2000);
    }
}

async fn jwt(uri: &str) -> Result<serde_json::Value, Box<dyn std::error::Error>> {
    let client = WorkloadApiClient::connect_to(uri).await?;
    let svid = client.fetch_jwt_svid([AUDIENCE], None).await?;
    client.validate_jwt_token(AUDIENCE, svid.token()).await?;
    let bundles = client.fetch_jwt_bundles().await?;
    let bundle = bundles.get(svid.spiffe_id().trust_domain()).ok_or("no bundle")?;
    bundle.find_jwt_authority(svid.key_id()).ok_or("its key is not in the bundle")?;
    Ok(json!({"event": "jwt", "id": svid.spiffe_id().to_string(), "kid": svid.key_id()}))
}

#[tokio::main(flavor = "current_thread")]
async fn main() {
    let uri = std::env::args().nth(1).expect("the endpoint's URI");
    tokio::spawn(watch(uri.clone()));
    let mut lines = BufReader::new(tokio::io::stdin()).lines();
    while let Ok(Some(_)) = lines.next_line().await {
        let event = jwt(&uri).await.unwrap_or_else(|e| json!({"event": "jwt", "error": e.to_string()}));
        println!("{event}");
    }
}
