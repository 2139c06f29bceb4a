use portfire::prelude::*;

struct NoFactory;

#[jobs]
impl NoFactory {
    #[job]
    async fn method(&self) {}
}

#[derive(FromServices)]
enum NotAStruct {}

struct NotClone;

#[derive(FromServices)]
struct Fields {
    service: NotClone,
}

#[derive(FromServices)]
struct NoJobs;

#[jobs]
impl NoJobs {
    async fn plain(&self) {}
}

#[jobs]
impl Clone for Fields {
    fn clone(&self) -> Self {
        Fields { service: NotClone }
    }
}

#[jobs(queue = "mail")]
impl Fields {
    #[job]
    async fn typed(self: std::sync::Arc<Self>) {}
}

fn main() {}
