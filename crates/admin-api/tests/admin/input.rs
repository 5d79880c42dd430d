//! What clients may send: nothing of it makes the server fail.

use actix_web::http::Method;
use serde_json::{Value, json};

use crate::{
    access::filled,
    document::operations,
    support::{Call, World},
};

fn writes_with_body() -> Vec<(String, Method)> {
    let has_body = |operation: &Value| operation.get("requestBody").is_some();
    let operations = operations().into_iter().filter(|(_, _, operation)| has_body(operation));
    operations
        .map(|(path, method, _)| (filled(&path), method.to_uppercase().parse().unwrap()))
        .collect()
}

#[actix_web::test]
async fn unknown_fields_are_refused_by_name() {
    let world = World::new().await;
    let writes = writes_with_body();
    assert!(writes.len() > 15);
    for (path, method) in writes {
        let body = json!({"credits": "1000000"});
        let mut call = Call::new(method, &path).bearer(&world.full).json(&body);
        call.idempotency_key = Some("key");
        world
            .send(call)
            .await
            .expect_error(400, "invalid_input", Some("credits"));
    }
}

#[actix_web::test]
async fn odd_bodies_get_a_clear_400() {
    let world = World::new().await;
    let bodies: [&[u8]; 9] = [
        b"",
        b"null",
        b"[]",
        b"\"x\"",
        b"{",
        b"{\"name\":\"\\u0000\"}",
        b"\xff\xfe",
        b"{\"name\":1e999}",
        b"{}{}",
    ];
    for (path, method) in writes_with_body() {
        for body in bodies {
            let mut call = Call::new(method.clone(), &path).bearer(&world.full);
            call.body = Some(body.to_vec());
            call.idempotency_key = Some("key");
            let reply = world.send(call).await;
            assert_eq!(reply.status.as_u16(), 400, "{method} {path} {body:?}: {}", reply.text);
        }
    }
    let deep = "[".repeat(100_000);
    let mut call = Call::new(Method::POST, "/admin/v1/tenants").bearer(&world.full);
    call.body = Some(deep.into_bytes());
    world.send(call).await.expect(400);
}

#[actix_web::test]
async fn bodies_are_json_of_at_most_one_mebibyte() {
    let world = World::new().await;
    let with = |size: usize| {
        let mut call = Call::new(Method::POST, "/admin/v1/tenants").bearer(&world.full);
        let mut body = b"{\"name\":\"a\"".to_vec();
        body.resize(size - 1, b' ');
        body.push(b'}');
        call.body = Some(body);
        world.send(call)
    };
    with(1024 * 1024).await.expect(201);
    with(1024 * 1024 + 1).await.expect_error(413, "body_too_large", None);
    let mut call = Call::new(Method::POST, "/admin/v1/tenants")
        .bearer(&world.full)
        .json(&json!({"name": "a"}));
    call.content_type = "text/plain";
    world.send(call).await.expect_error(415, "unsupported_media_type", None);
    let mut call = Call::new(Method::POST, "/admin/v1/tenants")
        .bearer(&world.full)
        .json(&json!({"name": "a"}));
    call.content_type = "application/json; charset=utf-8";
    world.send(call).await.expect(201);
}

#[actix_web::test]
async fn odd_paths_and_parameters_never_make_the_server_fail() {
    let world = World::new().await;
    for (path, method, _) in operations() {
        for odd in [
            "x",
            "%00",
            "%F0%28",
            "'%20OR%20'1'='1",
            "..%2F..",
            "ten_00000000000000000000000000000000",
            "%25",
        ] {
            let mut odd_path = path.clone();
            while let (Some(start), Some(end)) = (odd_path.find('{'), odd_path.find('}')) {
                odd_path.replace_range(start..=end, odd);
            }
            let mut call = Call::new(method.to_uppercase().parse().unwrap(), &odd_path).bearer(&world.full);
            call = call.json(&json!({}));
            let reply = world.send(call).await;
            assert!(reply.status.as_u16() < 500, "{method} {odd_path}: {}", reply.text);
            if method == "get" {
                let query = format!("{}?cursor={odd}&limit={odd}&{odd}={odd}&model={odd}", filled(&path));
                let reply = world.send(Call::new(Method::GET, &query).bearer(&world.full)).await;
                assert!(reply.status.as_u16() < 500, "{query}: {}", reply.text);
            }
        }
    }
}

#[actix_web::test]
async fn parameters_are_refused_by_name() {
    let world = World::new().await;
    for (query, field) in [
        ("limit=0", "limit"),
        ("limit=201", "limit"),
        ("limit=x", "limit"),
        ("cursor=x", "cursor"),
        ("page=2", "page"),
        ("limit=1&limit=2", "limit"),
    ] {
        let reply = world.get(&format!("/admin/v1/tenants?{query}")).await;
        reply.expect_error(400, "invalid_input", Some(field));
    }
    for (query, field) in [
        ("tenant=x", "tenant"),
        ("key=ten_x", "key"),
        ("reason=unknown", "reason"),
    ] {
        world
            .get(&format!("/admin/v1/requests?{query}"))
            .await
            .expect_error(400, "invalid_input", Some(field));
    }
    world
        .get("/admin/v1/price-history?kind=pool_multiplier")
        .await
        .expect_error(400, "invalid_input", Some("subject"));
    world
        .get("/admin/v1/price-history?kind=x&subject=y")
        .await
        .expect_error(400, "invalid_input", Some("kind"));
    world
        .get("/admin/v1/price-book?at=yesterday")
        .await
        .expect_error(400, "invalid_input", Some("at"));
}
