//! E-mail: files in a folder by default, an SMTP server when one is named.

use std::path::PathBuf;

use lettre::message::header::{ContentTransferEncoding, ContentType};
use lettre::message::{Attachment, Body, Mailbox, MultiPart, SinglePart};
use lettre::{FileTransport, Message, SmtpTransport, Transport as _};

use crate::error::ShopError;
use crate::files::Files;
use crate::ids::file_stem;

/// The domain in the ids of the shop's messages.
const DOMAIN: &str = "kettle-and-cup.example";

/// A message of the shop's, before it is an e-mail.
#[derive(Clone, Debug)]
pub struct Letter {
    /// What it is about, such as `welcome-C-00017`. Never two letters with one key: it is the name of
    /// the file and the message id, by which mail systems know a repeated message.
    pub key: String,
    /// Who gets it.
    pub to: Mailbox,
    /// Its subject.
    pub subject: String,
    /// Its text.
    pub text: String,
    /// A page that goes with it: a file name and HTML.
    pub attachment: Option<(String, String)>,
    /// The date it bears. That of the job, not of the attempt, so that a second attempt writes the
    /// same bytes.
    pub date: std::time::SystemTime,
}

/// The way out for letters.
#[derive(Debug)]
pub enum Post {
    /// Each letter becomes `mail/<key>.eml`.
    Folder,
    /// Each letter goes to an SMTP server.
    Smtp(SmtpTransport),
}

impl Post {
    /// The way out that is configured: `HOST` or `HOST:PORT` of an SMTP server, or none for files.
    ///
    /// It is spoken to without encryption, since this sample leaves out the TLS features of `lettre`:
    /// right for a relay on this machine and for test servers such as Mailpit, and for nothing else.
    ///
    /// # Errors
    /// When the address makes no sense.
    pub fn configured(smtp: Option<&str>) -> Result<Post, String> {
        let Some(server) = smtp else { return Ok(Post::Folder) };
        let (host, port) = server.rsplit_once(':').unwrap_or((server, "25"));
        match port.parse() {
            Ok(port) if !host.is_empty() && !host.contains('/') => {
                Ok(Post::Smtp(SmtpTransport::builder_dangerous(host).port(port).build()))
            }
            _ => Err(format!("`{server}` is not an SMTP server such as localhost:1025")),
        }
    }

    /// Sends a letter. Blocks.
    ///
    /// Into the folder: however often it is called with a letter, there is one whole file. To a
    /// server: once per call, so the caller asks first whether the letter is sent ([`is_sent`]); when
    /// the process is killed between the sending and the note of it, the server gets the message
    /// twice, with the same message id. No transaction spans two systems.
    ///
    /// [`is_sent`]: crate::db::is_sent
    ///
    /// # Errors
    /// When the letter cannot be put together, or is not taken.
    pub fn send(&self, letter: &Letter, files: &Files) -> Result<(), ShopError> {
        let message = letter.message()?;
        match self {
            Post::Folder => send_to_folder(letter, &message, files),
            Post::Smtp(server) => {
                server.send(&message).map_err(ShopError::mail(&letter.key))?;
                Ok(())
            }
        }
    }
}

/// The file transport writes under a random name, so it writes into the passing folder, and the
/// whole file then gets the name that belongs to the letter.
fn send_to_folder(letter: &Letter, message: &Message, files: &Files) -> Result<(), ShopError> {
    let passing = files.passing();
    let name = FileTransport::new(&passing).send(message).map_err(ShopError::mail(&letter.key))?;
    let written: PathBuf = passing.join(format!("{name}.eml"));
    let to = files.mail_file(&letter.key);
    files.adopt(&written, &to).map_err(ShopError::file(&to))
}

impl Letter {
    /// The letter as the text of an `.eml` file.
    ///
    /// # Errors
    /// When it cannot be put together.
    pub fn to_eml(&self) -> Result<String, ShopError> {
        String::from_utf8(self.message()?.formatted()).map_err(ShopError::mail(&self.key))
    }

    fn message(&self) -> Result<Message, ShopError> {
        let key = file_stem(&self.key);
        let text = SinglePart::builder().header(ContentType::TEXT_PLAIN).body(self.text.clone());
        let message = Message::builder()
            .message_id(Some(format!("<{key}@{DOMAIN}>")))
            .date(self.date)
            .from(Mailbox::new(Some("Kettle & Cup".to_owned()), sender()?))
            .to(self.to.clone())
            .subject(&self.subject);
        let message = match &self.attachment {
            None => message.singlepart(text),
            Some((name, html)) => {
                let body = Body::new_with_encoding(html.clone(), ContentTransferEncoding::Base64);
                let body = body.map_err(|_| ShopError::mail(&self.key)("not encodable"))?;
                let page = Attachment::new(name.clone()).body(body, ContentType::TEXT_HTML);
                // The border between parts is random unless named, and the bytes are to be the same.
                let parts = MultiPart::mixed().boundary(format!("part-of-{key}"));
                message.multipart(parts.singlepart(text).singlepart(page))
            }
        };
        message.map_err(ShopError::mail(&self.key))
    }
}

fn sender() -> Result<lettre::Address, ShopError> {
    lettre::Address::new("shop", DOMAIN).map_err(ShopError::mail("sender"))
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, UNIX_EPOCH};

    use super::*;

    fn letter() -> Letter {
        Letter {
            key: "invoice-A/1".into(),
            to: Mailbox::new(Some("Zoé, Bo".into()), "zoe@example.com".parse().unwrap()),
            subject: "Grüße 🎂".into(),
            text: "Hé\n".into(),
            attachment: Some(("A.html".into(), "<p>é</p>".into())),
            date: UNIX_EPOCH + Duration::from_secs(1_767_225_600),
        }
    }

    #[test]
    fn a_letter_sent_twice_is_one_whole_file() {
        let root = tempfile::tempdir().unwrap();
        let files = Files::open(root.path()).unwrap();
        Post::Folder.send(&letter(), &files).unwrap();
        let first = std::fs::read_to_string(files.mail_file("invoice-A/1")).unwrap();
        Post::Folder.send(&letter(), &files).unwrap();
        let second = std::fs::read_to_string(files.mail_file("invoice-A/1")).unwrap();
        assert_eq!(first, second);
        assert!(first.contains("Message-ID: <invoice-A%2F1@kettle-and-cup.example>"), "{first}");
        assert!(first.contains("Date: Thu, 01 Jan 2026 00:00:00 +0000"), "{first}");
        assert_eq!(std::fs::read_dir(files.mail()).unwrap().count(), 1);
        assert_eq!(std::fs::read_dir(files.passing()).unwrap().count(), 0);
    }

    #[test]
    fn an_address_of_a_server_is_checked() {
        assert!(matches!(Post::configured(Some("localhost:1025")), Ok(Post::Smtp(_))));
        assert!(matches!(Post::configured(None), Ok(Post::Folder)));
        for mistake in ["smtp://localhost:1025", "localhost:mail", ":25", "localhost:99999"] {
            assert!(Post::configured(Some(mistake)).is_err(), "{mistake}");
        }
    }
}
