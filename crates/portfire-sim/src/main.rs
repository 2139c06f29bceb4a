//! Runs seeds.
fn main() {
    let args: Vec<u64> = std::env::args().skip(1).filter_map(|a| a.parse().ok()).collect();
    let (from, n) = (args[0], args[1]);
    let mutant = std::env::args().nth(3).and_then(|m| m.parse().ok());
    let marks = portfire_sim::Marks::default();
    let t = std::time::Instant::now();
    let (mut steps, mut bad) = (0, 0);
    for seed in from..from + n {
        let report = portfire_sim::simulate(seed, portfire_sim::Options { mutant, traced: n == 1 });
        marks.add(&report.marks);
        if std::env::var("TWICE").is_ok() { let again = portfire_sim::simulate(seed, portfire_sim::Options { mutant, traced: false }); if again.hash != report.hash { println!("seed {seed} differs"); } }
        steps += report.steps; if report.steps > 15000 { println!("seed {seed} steps {} virtual {:?}", report.steps, report.virtual_time); }
        for line in &report.lines { println!("{line}"); }
        if let Some(v) = report.violation { bad += 1; if bad < 40 { println!("seed {seed}: {v}"); } }
        if n == 1 { println!("hash {:x} steps {} virtual {:?}", report.hash, report.steps, report.virtual_time); }
    }
    for &m in portfire_sim::Mark::ALL { print!("{m}={} ", marks.hits(m)); }
    println!("\n{bad} bad of {n}, {steps} steps, {:?}", t.elapsed());
}
