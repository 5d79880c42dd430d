//! The control port does what the handle does.

use fault_proxy::{Counts, Faults};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use crate::world::{End, World, hear, hear_all, say};

#[tokio::test]
async fn a_script_sets_reads_and_heals_faults_and_breaks_connections() {
    rustls::crypto::ring::default_provider().install_default().ok();
    let world = World::start().await;
    let control = world.proxy.start_control(0).await.unwrap();
    let http = reqwest::Client::new();
    let call = |method: Method, path: &str, body: Option<Value>| {
        let request = http.request(method, format!("http://{control}{path}"));
        let request = body.iter().fold(request, |request, body| request.json(body));
        async move { request.send().await.unwrap() }
    };
    let (mut client, mut server) = world.connect().await;
    say(&mut client, "12345").await;
    hear(&mut server, 5).await;

    let faults = json!({ "to_client": { "cut": { "after": { "events": 1 }, "how": "fin" } } });
    let set = call(Method::PUT, "/faults", Some(faults)).await;
    assert_eq!(set.status(), StatusCode::NO_CONTENT);
    let read: Faults = call(Method::GET, "/faults", None).await.json().await.unwrap();
    assert_eq!(read, world.faults.faults());
    say(&mut server, "data: 1\n\ndata: 2\n\n").await;
    assert_eq!(hear_all(&mut client).await, ("data: 1\n\n".to_owned(), End::Fin));

    call(Method::DELETE, "/faults", None).await;
    assert_eq!(world.faults.faults(), Faults::default());
    let (mut client, mut server) = world.connect().await;
    say(&mut client, "67").await;
    hear(&mut server, 2).await;
    call(Method::POST, "/break/rst", None).await;
    assert_eq!(hear_all(&mut client).await.1, End::Reset);
    world.faults.wait_until(|counts| counts.open == 0).await;
    let counts: Counts = call(Method::GET, "/counts", None).await.json().await.unwrap();
    assert_eq!((counts.accepted, counts.bytes_to_server), (2, 7));
    assert_eq!(counts, world.faults.counts());
}

#[tokio::test]
async fn a_misspelt_fault_is_refused_and_changes_nothing() {
    rustls::crypto::ring::default_provider().install_default().ok();
    let world = World::start().await;
    let control = world.proxy.start_control(0).await.unwrap();
    let http = reqwest::Client::new();
    for body in [
        json!({ "refuses": true }),
        json!({ "to_client": { "cut": { "after": { "lines": 1 } } } }),
    ] {
        let answer = http
            .put(format!("http://{control}/faults"))
            .json(&body)
            .send()
            .await
            .unwrap();
        assert_eq!(answer.status(), StatusCode::BAD_REQUEST, "{body}");
    }
    assert_eq!(world.faults.faults(), Faults::default());
    let answer = http
        .post(format!("http://{control}/break/gently"))
        .send()
        .await
        .unwrap();
    assert_eq!(answer.status(), StatusCode::NOT_FOUND);
}
