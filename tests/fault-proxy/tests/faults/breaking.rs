//! Cuts, resets, refusals, corruption.

use std::{io::ErrorKind, time::Duration};

use fault_proxy::{Cut, CutKind, CutPoint, Faults, Lane};
use tokio::io::AsyncWriteExt;

use crate::world::{End, World, assert_silence, hear, hear_all, say, to_client, to_server};

fn cut(after: CutPoint, how: CutKind) -> Lane {
    Lane {
        cut: Some(Cut {
            after,
            how,
            times: None,
        }),
        ..Lane::default()
    }
}

#[tokio::test]
async fn without_faults_both_sides_hear_everything_and_each_ends_by_itself() {
    let world = World::start().await;
    let (mut client, mut server) = world.connect().await;
    say(&mut client, "question").await;
    client.shutdown().await.unwrap();
    assert_eq!(hear_all(&mut server).await, ("question".to_owned(), End::Fin));
    // the other half is still open
    say(&mut server, "answer").await;
    drop(server);
    assert_eq!(hear_all(&mut client).await, ("answer".to_owned(), End::Fin));
    let counts = world.faults.wait_until(|counts| counts.open == 0).await;
    assert_eq!((counts.accepted, counts.broken), (1, 0));
    assert_eq!((counts.bytes_to_server, counts.bytes_to_client), (8, 6));
}

#[tokio::test]
async fn an_orderly_cut_lets_exactly_so_many_bytes_through_in_either_direction() {
    for count in [0, 1, 5] {
        let world = World::with(to_client(cut(CutPoint::Bytes(count), CutKind::Fin))).await;
        let (mut client, mut server) = world.connect().await;
        say(&mut server, "ans").await;
        say(&mut server, "wer").await;
        let expected = "answer"[..usize::try_from(count).unwrap()].to_owned();
        assert_eq!(hear_all(&mut client).await, (expected, End::Fin));
        assert_eq!(hear_all(&mut server).await.1, End::Fin, "the server's side breaks too");

        let world = World::with(to_server(cut(CutPoint::Bytes(count), CutKind::Fin))).await;
        let (mut client, mut server) = world.connect().await;
        say(&mut client, "answer").await;
        let expected = "answer"[..usize::try_from(count).unwrap()].to_owned();
        assert_eq!(hear_all(&mut server).await, (expected, End::Fin));
    }
}

#[tokio::test]
async fn a_cut_by_events_ends_with_a_whole_event_inside_a_chunk() {
    let world = World::with(to_client(cut(CutPoint::Events(2), CutKind::Fin))).await;
    let (mut client, mut server) = world.connect().await;
    say(&mut server, "HTTP/1.1 200 OK\r\n\r\n9\r\ndata: 1\n\n\r\n9\r\ndata: 2\n").await;
    say(&mut server, "\n\r\n9\r\ndata: 3\n\n\r\n").await;
    let (heard, end) = hear_all(&mut client).await;
    assert_eq!(
        (heard.as_str(), end),
        ("HTTP/1.1 200 OK\r\n\r\n9\r\ndata: 1\n\n\r\n9\r\ndata: 2\n\n", End::Fin)
    );
}

#[tokio::test]
async fn a_text_never_arrives_whole_and_the_one_after_the_last_cut_does() {
    let text = "C\0COMMIT\0";
    let mut lane = cut(CutPoint::Text(text.to_owned()), CutKind::Fin);
    lane.cut.as_mut().unwrap().times = Some(1);
    let world = World::with(to_client(lane)).await;
    let (mut client, mut server) = world.connect().await;
    for piece in ["begin C\0COMM", "IT", "\0 and more"] {
        say(&mut server, piece).await;
    }
    assert_eq!(hear_all(&mut client).await, ("begin C\0COMMIT".to_owned(), End::Fin));
    let (mut client, mut server) = world.connect().await;
    say(&mut server, text).await;
    drop(server);
    assert_eq!(hear_all(&mut client).await, (text.to_owned(), End::Fin));
}

#[tokio::test]
async fn a_reset_is_seen_as_one_by_both_sides() {
    let world = World::with(to_client(cut(CutPoint::Bytes(3), CutKind::Rst))).await;
    let (mut client, mut server) = world.connect().await;
    say(&mut server, "answer").await;
    let (heard, end) = hear_all(&mut client).await;
    // a reset may overtake what was not read yet
    assert!("ans".starts_with(&heard) && end == End::Reset, "{heard} {end:?}");
    assert_eq!(hear_all(&mut server).await.1, End::Reset);
    assert_eq!(world.faults.wait_until(|counts| counts.open == 0).await.broken, 1);
}

#[tokio::test]
async fn a_reset_by_one_side_reaches_the_other() {
    let world = World::start().await;
    let (mut client, mut server) = world.connect().await;
    say(&mut client, "hello").await;
    assert_eq!(hear(&mut server, 5).await, "hello");
    socket2::SockRef::from(&client)
        .set_linger(Some(Duration::ZERO))
        .unwrap();
    drop(client);
    assert_eq!(hear_all(&mut server).await.1, End::Reset);
}

#[tokio::test]
async fn a_cut_may_be_for_the_first_connections_only() {
    let mut lane = cut(CutPoint::Bytes(1), CutKind::Fin);
    lane.cut.as_mut().unwrap().times = Some(1);
    let world = World::with(to_client(lane)).await;
    for expected in ["a", "answer"] {
        let (mut client, mut server) = world.connect().await;
        say(&mut server, "answer").await;
        server.shutdown().await.unwrap();
        assert_eq!(hear_all(&mut client).await.0, expected);
    }
}

#[tokio::test]
async fn new_faults_apply_to_open_connections_and_count_anew() {
    let world = World::start().await;
    let (mut client, mut server) = world.connect().await;
    say(&mut server, "before ").await;
    assert_eq!(hear(&mut client, 7).await, "before ");
    world.faults.set(to_client(cut(CutPoint::Bytes(2), CutKind::Fin)));
    say(&mut server, "after").await;
    assert_eq!(hear_all(&mut client).await, ("af".to_owned(), End::Fin));
}

#[tokio::test]
async fn what_is_open_breaks_by_order_and_what_comes_later_does_not() {
    for (how, end) in [(CutKind::Fin, End::Fin), (CutKind::Rst, End::Reset)] {
        let world = World::start().await;
        let mut open = [world.connect().await, world.connect().await];
        // both are being served once they have passed something
        for (client, server) in &mut open {
            say(client, "x").await;
            hear(server, 1).await;
        }
        world.faults.break_open(how);
        for (mut client, mut server) in open {
            assert_eq!(hear_all(&mut client).await.1, end);
            assert_eq!(hear_all(&mut server).await.1, end);
        }
        let (mut client, mut server) = world.connect().await;
        say(&mut client, "later").await;
        assert_eq!(hear(&mut server, 5).await, "later");
    }
}

#[tokio::test]
async fn a_refusing_proxy_keeps_its_open_connections_and_listens_again_on_the_same_port() {
    let world = World::start().await;
    let (mut client, mut server) = world.connect().await;
    say(&mut client, "1").await;
    hear(&mut server, 1).await;
    for _ in 0..2 {
        world.faults.change(|faults| faults.refuse = true);
        // the listener closes a moment after the order: what it takes until then it serves
        while let Ok(early) = world.try_connect().await {
            drop(early);
            tokio::task::yield_now().await;
        }
        let refused = world.try_connect().await.unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::ConnectionRefused);
        say(&mut client, "still here").await;
        assert_eq!(hear(&mut server, 10).await, "still here");
        world.faults.heal();
        while world.try_connect().await.is_err() {
            tokio::task::yield_now().await;
        }
    }
}

#[tokio::test]
async fn a_server_that_is_away_resets_the_client() {
    let World {
        server,
        proxy,
        faults: _,
    } = World::start().await;
    drop(server);
    let mut client = tokio::net::TcpStream::connect(proxy.address()).await.unwrap();
    assert_eq!(hear_all(&mut client).await, (String::new(), End::Reset));
}

#[tokio::test]
async fn one_byte_is_corrupted_and_no_other() {
    let world = World::with(to_client(Lane {
        corrupt_byte: Some(4),
        ..Lane::default()
    }))
    .await;
    let (mut client, mut server) = world.connect().await;
    for piece in ["abc", "def", "ghi"] {
        say(&mut server, piece).await;
    }
    drop(server);
    let mut heard = Vec::new();
    tokio::io::AsyncReadExt::read_to_end(&mut client, &mut heard)
        .await
        .unwrap();
    assert_eq!(heard, [b"abcd".as_slice(), &[!b'e'], b"fghi"].concat());
}

#[tokio::test]
async fn a_stalled_connection_can_still_be_broken() {
    let world = World::with(Faults::default()).await;
    world.faults.blackhole();
    let (mut client, mut server) = world.connect().await;
    say(&mut client, "anybody?").await;
    assert_silence(&mut server).await;
    world.faults.break_open(CutKind::Rst);
    assert_eq!(hear_all(&mut client).await.1, End::Reset);
}
