#[derive(Clone, Debug)]
pub struct CronExpression;
#[derive(Clone, Debug)]
pub struct Zone;
impl CronExpression {
    pub fn parse(_: &str) -> Result<Self, String> {
        Ok(Self)
    }
    pub fn next_after(&self, _: i64, _: &Zone) -> Option<i64> {
        None
    }
}
impl Zone {
    pub fn parse(_: &str) -> Result<Self, String> {
        Ok(Self)
    }
}
