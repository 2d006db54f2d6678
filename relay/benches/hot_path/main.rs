//! The pure hot path: what the relay itself does for a row, between the client libraries.
//!
//! `cargo bench` times its parts. With `--count` it does a fixed amount of the whole once, for
//! `./dev check hot_path`, which counts the instructions.

mod backlog;

use criterion::{BatchSize, Criterion, Throughput};
use outbox_relay::header;
use outbox_relay::range::RangeSet;
use outbox_relay::route::{Router, Template};
use outbox_relay::target::wire;

use backlog::Backlog;

/// Rows of one round: far more than a window.
const ROWS: i64 = 30_000;

fn main() {
    if std::env::args().any(|argument| argument == "--count") {
        println!("{} rows", Backlog::new(ROWS).drain());
        return;
    }
    let mut criterion = Criterion::default().configure_from_args();
    flow(&mut criterion);
    ranges(&mut criterion);
    routes(&mut criterion);
    headers(&mut criterion);
    criterion.final_summary();
}

/// Rows in, submissions out, confirms of three partitions in, marks out.
fn flow(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("flow");
    group.throughput(Throughput::Elements(ROWS.unsigned_abs()));
    group.bench_function("drain", |bencher| {
        bencher.iter_batched(|| Backlog::new(ROWS), Backlog::drain, BatchSize::LargeInput);
    });
}

/// Ids that come as the confirms of three partitions do.
fn ranges(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("ranges");
    group.throughput(Throughput::Elements(3_000));
    group.bench_function("union of three partitions", |bencher| {
        bencher.iter(|| {
            let partition = |p: i64| (0..1_000).map(move |n| n * 3 + p..n * 3 + p + 1);
            let mut all = RangeSet::new();
            (0..3).for_each(|p| all.union(&partition(p).collect()));
            assert_eq!(all.ranges_len(), 1);
        });
    });
}

fn routes(criterion: &mut Criterion) {
    let message = backlog::message(1);
    let router = Router::new(vec![backlog::route("payment.*"), backlog::route("order.*")]);
    let template: Template = "{{ topic }}.v1".parse().expect("a template");
    let mut group = criterion.benchmark_group("route");
    group.bench_function("match", |bencher| bencher.iter(|| router.route(&message)));
    group.bench_function("template", |bencher| bencher.iter(|| template.render(&message).is_ok()));
}

fn headers(criterion: &mut Criterion) {
    let submission = backlog::submission(1);
    let mut group = criterion.benchmark_group("headers");
    group.bench_function("wire", |bencher| {
        bencher.iter(|| {
            let mut bytes = 0;
            wire::headers(&submission, &[], |name, value| {
                bytes += name.len() + value.map_or(0, <[u8]>::len);
            })
            .expect("they are legal");
            bytes
        });
    });
    group.bench_function("names", |bencher| bencher.iter(|| header::check_name("tenant").is_ok()));
}
