//! The pages, over a real connection.

use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

use crate::stage::Stage;

struct Page {
    port: u16,
}

impl Page {
    async fn open(stage: &Stage) -> Page {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let router = shop::web::router(stage.app.clone());
        tokio::spawn(async move { axum::serve(listener, router).await });
        Page { port }
    }

    async fn get(&self, path: &str) -> String {
        self.send(&format!("GET {path} HTTP/1.1\r\nHost: localhost:{}\r\n", self.port), "").await
    }

    async fn post(&self, path: &str, form: &str, more: &str) -> String {
        let head = format!(
            "POST {path} HTTP/1.1\r\nHost: localhost:{}\r\nContent-Length: {}\r\n\
             Content-Type: application/x-www-form-urlencoded\r\n{more}",
            self.port,
            form.len()
        );
        self.send(&head, form).await
    }

    async fn send(&self, head: &str, body: &str) -> String {
        let mut stream = TcpStream::connect(("127.0.0.1", self.port)).await.unwrap();
        let request = format!("{head}Connection: close\r\n\r\n{body}");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        answer
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sign_up_and_an_order_become_jobs_and_results() {
    let stage = Stage::new(Duration::ZERO, None).await;
    let page = Page::open(&stage).await;
    let answer =
        page.post("/customers", "name=%3Cb%3EBo&email=bo%40example.com&language=nl", "").await;
    assert!(answer.starts_with("HTTP/1.1 303"), "{answer}");
    let order = "order_id=W-1&sku=CUP-SET-4&quantity=2&unit_price=0.01&name=Bo&email=bo%40example.com&address=";
    for _ in 0..2 {
        let answer = page.post("/orders", order, "").await;
        assert!(answer.starts_with("HTTP/1.1 303"), "{answer}");
    }
    assert!(page.get("/invoices/W-1").await.starts_with("HTTP/1.1 404"));
    stage.drain().await;
    let front = page.get("/").await;
    assert!(front.contains("Customers: 1, orders: 1, invoices: 1, e-mails: 3."), "{front}");
    let invoice = page.get("/invoices/W-1").await;
    assert!(invoice.contains("64.00"), "{invoice}");
    assert!(invoice.to_ascii_lowercase().contains("content-security-policy: default-src 'none'"));
    let customer =
        page.get(answer.split("location: ").nth(1).unwrap().lines().next().unwrap()).await;
    assert!(customer.contains("<h1>&lt;b&gt;Bo</h1>"), "{customer}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_running_job_can_be_cancelled_from_its_page() {
    let stage = Stage::new(Duration::ZERO, None).await;
    let page = Page::open(&stage).await;
    let answer = page.post("/stock-counts", "", "").await;
    let job = answer.split("location: ").nth(1).unwrap().lines().next().unwrap().to_owned();
    let shown = page.get(&job).await;
    assert!(shown.contains("Cancel it") && shown.contains("http-equiv=\"refresh\""), "{shown}");
    let server = stage.app.serve(1).await.unwrap();
    while !page.get(&job).await.contains("<td>processing</td>") {
        tokio::task::yield_now().await;
    }
    let answer = page.post(&format!("{job}/cancel"), "", "").await;
    assert!(answer.starts_with("HTTP/1.1 303"), "{answer}");
    server.shutdown().await;
    let shown = page.get(&job).await;
    assert!(shown.contains("deleted") && !shown.contains("Cancel it"), "{shown}");
    assert!(!shown.contains("http-equiv=\"refresh\""), "what has ended does not change: {shown}");
    let list = page.get("/jobs?state=deleted").await;
    assert!(list.contains("count_stock"), "{list}");
    assert!(page.get("/jobs").await.contains("count_stock"), "all of them");
}

#[tokio::test(flavor = "multi_thread")]
async fn bad_forms_other_sites_and_unknown_things_are_refused() {
    let stage = Stage::new(Duration::ZERO, None).await;
    let page = Page::open(&stage).await;
    let bad = page.post("/customers", "name=Bo&email=nowhere%3Cscript%3E", "").await;
    assert!(bad.starts_with("HTTP/1.1 422") && bad.contains("nowhere&lt;script&gt;"), "{bad}");
    let other = page.post("/stock-counts", "", "Origin: http://evil.example\r\n").await;
    assert!(other.starts_with("HTTP/1.1 403"), "{other}");
    assert!(page.get("/invoices/..%2f..%2fshop.db").await.starts_with("HTTP/1.1 404"));
    let order = "order_id=W-1&sku=%3CNOPE&quantity=1&name=Bo&email=bo%40example.com";
    let unknown = page.post("/orders", order, "").await;
    assert!(unknown.starts_with("HTTP/1.1 422"), "{unknown}");
    assert!(unknown.contains("`sku` is `&lt;NOPE`, which the shop does not sell"), "{unknown}");
    for name in ["none", "%20%00"] {
        let none = page.post(&format!("/recurring/{name}/trigger"), "", "").await;
        assert!(none.starts_with("HTTP/1.1 404"), "{none}");
    }
    let nowhere = page.get("/nowhere").await;
    assert!(nowhere.starts_with("HTTP/1.1 404") && nowhere.contains("no such page"), "{nowhere}");
    assert!(page.get("/jobs/none").await.starts_with("HTTP/1.1 422"));
    assert!(page.get("/jobs?state=lost").await.starts_with("HTTP/1.1 422"));
    assert!(page.get("/counts.json").await.contains("\"created_total\":0"));
}
