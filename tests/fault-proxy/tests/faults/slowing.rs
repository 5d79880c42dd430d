//! Latency, rate, drip, stall. Of times only lower bounds are asserted: what a pause is for cannot happen sooner.

use std::time::{Duration, Instant};

use fault_proxy::{Drip, Lane};
use tokio::io::AsyncWriteExt;

use crate::world::{End, World, assert_silence, hear, hear_all, say, to_client, to_server};

#[tokio::test]
async fn latency_delays_each_way_by_itself() {
    let late = Lane {
        latency_ms: 80,
        ..Lane::default()
    };
    for faults in [to_client(late.clone()), to_server(late)] {
        let world = World::with(faults).await;
        let (mut client, mut server) = world.connect().await;
        let started = Instant::now();
        say(&mut client, "ping").await;
        hear(&mut server, 4).await;
        say(&mut server, "pong").await;
        hear(&mut client, 4).await;
        assert!(started.elapsed() >= Duration::from_millis(80));
    }
}

#[tokio::test]
async fn jitter_keeps_the_order_and_loses_nothing() {
    let world = World::with(to_client(Lane {
        latency_ms: 1,
        jitter_ms: 10,
        ..Lane::default()
    }))
    .await;
    let (mut client, mut server) = world.connect().await;
    server.set_nodelay(true).unwrap();
    let mut said = String::new();
    for number in 0..40 {
        let piece = format!("{number},");
        say(&mut server, &piece).await;
        tokio::time::sleep(Duration::from_millis(1)).await;
        said.push_str(&piece);
    }
    drop(server);
    assert_eq!(hear_all(&mut client).await, (said, End::Fin));
}

#[tokio::test]
async fn a_drip_and_a_rate_take_their_time_and_lose_nothing() {
    let drip = Lane {
        drip: Some(Drip { bytes: 1, every_ms: 10 }),
        ..Lane::default()
    };
    let slow = Lane {
        bytes_per_s: Some(100),
        ..Lane::default()
    };
    for lane in [drip, slow] {
        let world = World::with(to_client(lane)).await;
        let (mut client, mut server) = world.connect().await;
        let started = Instant::now();
        say(&mut server, "ten  bytes").await;
        drop(server);
        assert_eq!(hear_all(&mut client).await, ("ten  bytes".to_owned(), End::Fin));
        assert!(started.elapsed() >= Duration::from_millis(90));
    }
}

#[tokio::test]
async fn a_slow_reader_holds_its_sender_back() {
    let world = World::with(to_client(Lane {
        stalled: true,
        ..Lane::default()
    }))
    .await;
    let (mut client, mut server) = world.connect().await;
    let megabyte = vec![b'x'; 1 << 20];
    let mut sent = 0;
    // more than every buffer on the way takes
    while tokio::time::timeout(Duration::from_secs(1), server.write_all(&megabyte))
        .await
        .is_ok()
    {
        sent += 1;
        assert!(sent < 64, "the proxy keeps everything that it is given");
    }
    assert_silence(&mut client).await;
}

#[tokio::test]
async fn a_stall_holds_bytes_and_ends_back_and_lets_them_go_in_order() {
    let world = World::start().await;
    let (mut client, mut server) = world.connect().await;
    say(&mut server, "one ").await;
    assert_eq!(hear(&mut client, 4).await, "one ");
    world.faults.blackhole();
    say(&mut server, "two ").await;
    say(&mut server, "three").await;
    drop(server);
    assert_silence(&mut client).await;
    // accepted, and then nothing
    let (mut second, mut its_server) = world.connect().await;
    say(&mut second, "hello?").await;
    assert_silence(&mut its_server).await;
    world.faults.heal();
    assert_eq!(hear_all(&mut client).await, ("two three".to_owned(), End::Fin));
    assert_eq!(hear(&mut its_server, 6).await, "hello?");
}

#[tokio::test]
async fn a_change_ends_the_pauses_of_the_earlier_faults() {
    let world = World::with(to_client(Lane {
        latency_ms: 3_600_000,
        ..Lane::default()
    }))
    .await;
    let (mut client, mut server) = world.connect().await;
    say(&mut server, "late").await;
    assert_silence(&mut client).await;
    world.faults.heal();
    assert_eq!(hear(&mut client, 4).await, "late");
}
