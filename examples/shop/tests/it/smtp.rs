//! E-mails over SMTP, to a server that writes down what it hears.

use std::time::Duration;

use shop::mail::Post;
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;

use crate::stage::Stage;

/// Answers as the simplest of mail servers does; tells each message it took.
async fn listen(listener: TcpListener, messages: mpsc::UnboundedSender<String>) {
    while let Ok((stream, _)) = listener.accept().await {
        tokio::spawn(take_messages(stream, messages.clone()));
    }
}

async fn take_messages(
    mut stream: TcpStream,
    messages: mpsc::UnboundedSender<String>,
) -> std::io::Result<()> {
    let (reader, mut writer) = stream.split();
    let mut lines = BufReader::new(reader).lines();
    let mut message: Option<String> = None;
    writer.write_all(b"220 test\r\n").await?;
    while let Some(line) = lines.next_line().await? {
        let answer = match &mut message {
            Some(text) if line == "." => {
                messages.send(std::mem::take(text)).unwrap();
                message = None;
                "250 taken\r\n"
            }
            Some(text) => {
                text.push_str(&line);
                text.push('\n');
                continue;
            }
            None if line == "DATA" => {
                message = Some(String::new());
                "354 go on\r\n"
            }
            None if line == "QUIT" => "221 bye\r\n",
            None => "250 ok\r\n",
        };
        writer.write_all(answer.as_bytes()).await?;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_letter_goes_to_the_server_that_is_configured_and_goes_once() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let (sender, mut messages) = mpsc::unbounded_channel();
    tokio::spawn(listen(listener, sender));
    let stage = Stage::new(Duration::ZERO, Some(&address)).await;
    assert!(matches!(stage.app.shop.post, Post::Smtp(_)));
    stage.put("a.csv", "customer_id,name,email,signed_up_on\nC-1,Bo,bo@example.com,2025-01-31\n");
    assert_eq!(stage.import().await.mails, 2);
    // The same customer in another file is known already.
    stage.put("b.csv", "name,customer_id,email,signed_up_on\nBo,C-1,bo@example.com,2025-01-31\n");
    assert_eq!(stage.import().await.mails, 0);
    let mut subjects = Vec::new();
    while let Ok(message) = messages.try_recv() {
        assert!(message.contains("Message-ID: <"), "{message}");
        let line = message.lines().find(|line| line.starts_with("Subject: ")).unwrap();
        subjects.push(line.to_owned());
    }
    subjects.sort();
    assert_eq!(subjects, ["Subject: 10 % for you", "Subject: Welcome to Kettle & Cup"]);
    assert_eq!(stage.results("mail"), [""; 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_is_down_means_another_attempt_and_not_a_lost_letter() {
    // A port that nobody listens on: taken, and let go again.
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    let stage = Stage::new(Duration::ZERO, Some(&address.to_string())).await;
    stage.put("a.csv", "customer_id,name,email,signed_up_on\nC-1,Bo,bo@example.com,2025-01-31\n");
    let (sender, mut messages) = mpsc::unbounded_channel();
    let come_back = async {
        // Once the first attempts have failed.
        let mut looks = tokio::time::interval(Duration::from_millis(20));
        loop {
            looks.tick().await;
            if stage.app.storage.counts().await.unwrap().retried_total >= 4 {
                break;
            }
        }
        let listener = TcpListener::bind(address).await.unwrap();
        tokio::spawn(listen(listener, sender));
    };
    let (totals, ()) = tokio::join!(stage.import(), come_back);
    assert_eq!((totals.mails, totals.failed), (2, 0));
    assert!(messages.try_recv().is_ok() && messages.try_recv().is_ok());
    assert!(messages.try_recv().is_err());
}
