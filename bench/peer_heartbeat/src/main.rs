//! What bench/cluster holds our heartbeat endpoint against: the least of one on axum and rustls, on one thread. It looks the token's digest up, parses
//! the report and keeps its time; no order, no inventory, no answer of its own. `peer_heartbeat PORT CERTIFICATE KEY AGENTS`, on 127.0.0.1.
use axum::{body::Bytes, extract::State, http::header::AUTHORIZATION, http::{HeaderMap, StatusCode}, response::{IntoResponse, Response}, routing::post, Json, Router};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::{collections::HashMap, sync::{Arc, Mutex}, time::Instant};

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
#[allow(dead_code)] // Parsed as ours is, and dropped.
struct Report<'a> {
    workspace: &'a str,
    #[serde(rename = "bootID")]
    boot_id: &'a str,
    sequence: i64,
    time: &'a str,
    agent_version: &'a str,
    runtime: &'a str,
    active_tasks: i64,
    current_task: String,
    error_rate: f64,
    uptime_seconds: i64,
    monthly_spend: f64,
    management_present: bool,
    model_present: bool,
    loaded_tools: Vec<String>,
    inventory_digest: &'a str,
    answer_tag: &'a str,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Answer {
    answer_tag: &'static str,
    unchanged: bool,
}

struct Agent {
    heard: Instant,
    sequence: i64,
}

type Agents = Arc<Mutex<HashMap<[u8; 32], Agent>>>;

async fn heartbeat(State(agents): State<Agents>, headers: HeaderMap, body: Bytes) -> Response {
    let token = headers.get(AUTHORIZATION).and_then(|value| value.to_str().ok()).and_then(|value| value.strip_prefix("Bearer ")).unwrap_or("");
    let digest: [u8; 32] = Sha256::digest(token).into();
    let mut agents = agents.lock().unwrap();
    let Some(agent) = agents.get_mut(&digest) else { return StatusCode::UNAUTHORIZED.into_response() };
    let Ok(report) = serde_json::from_slice::<Report>(&body) else { return StatusCode::BAD_REQUEST.into_response() };
    agent.heard = Instant::now();
    agent.sequence = report.sequence;
    Json(Answer { answer_tag: "0123456789abcdef", unchanged: true }).into_response()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[tokio::main(flavor = "current_thread")]
async fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    let [_, port, certificate, key, agents] = &arguments[..] else { panic!("peer_heartbeat PORT CERTIFICATE KEY AGENTS") };
    rustls::crypto::ring::default_provider().install_default().unwrap();
    // The tokens of bench/agents.
    let known = (0..agents.parse::<usize>().unwrap()).map(|n| {
        let token = hex(&Sha256::digest(format!("token of ws-{n:05}")));
        (Sha256::digest(token).into(), Agent { heard: Instant::now(), sequence: 0 })
    });
    let router = Router::new().route("/registry/heartbeat", post(heartbeat)).with_state(Arc::new(Mutex::new(known.collect())));
    let tls = axum_server::tls_rustls::RustlsConfig::from_pem_file(certificate, key).await.unwrap();
    axum_server::bind_rustls(format!("127.0.0.1:{port}").parse().unwrap(), tls).serve(router.into_make_service()).await.unwrap();
}
