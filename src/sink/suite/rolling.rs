//! When files close.

use super::*;

#[test]
fn files_roll_by_time_when_rows_come_and_at_barriers() {
    let staged = |world: &mut World, steps: &[(u64, bool)]| {
        let mut sink = world.sink("o1");
        let mut files = Vec::new();
        for &(seconds, write) in steps {
            world.clock.advance(Duration::from_secs(seconds));
            if write {
                sink.write(world.rows(&FIRST[..1])).unwrap();
            }
            files.push(sink.stage(1, false).unwrap().tokens.len());
        }
        files
    };
    let steps = [
        (0, true),
        (20, true),
        (20, false),
        (20, false),
        (20, true),
        (59, false),
        (1, false),
    ];
    let mut world = World::in_memory("filesystem", "json");
    assert_eq!(
        staged(&mut world, &steps),
        [0, 0, 0, 1, 0, 0, 1],
        "after one minute"
    );
    world.set("sink.rolling-policy.inactivity-interval", "30 s");
    assert_eq!(
        staged(&mut world, &steps),
        [0, 0, 0, 1, 0, 1, 0],
        "or when nothing comes"
    );
    world.set("sink.rolling-policy.rollover-interval", "1 h");
    assert_eq!(
        staged(&mut world, &steps),
        [0, 0, 0, 1, 0, 1, 0],
        "by inactivity alone"
    );
    world.set("sink.rolling-policy.check-interval", "70 s");
    assert_eq!(staged(&mut world, &steps), [0; 7], "looked at seldom");
}

#[test]
fn files_close_on_a_clock_that_was_set_back() {
    let world = World::in_memory("filesystem", "json");
    world.clock.set(3_600_000);
    let mut sink = world.sink("o1");
    sink.write(world.rows(&FIRST[..1])).unwrap();
    world.clock.set(0);
    let mut closed = |seconds| {
        world.clock.advance(Duration::from_secs(seconds));
        sink.stage(1, false).unwrap().tokens.len()
    };
    assert_eq!([closed(0), closed(59), closed(1)], [0, 0, 1]);
}

#[test]
fn files_roll_by_size() {
    let mut world = World::in_memory("filesystem", "csv");
    world.set("sink.rolling-policy.file-size", "10 b");
    let mut sink = world.sink("o1");
    let mut staged = |rows: &[Row]| {
        sink.write(world.rows(rows)).unwrap();
        let mut staging = sink.stage(1, false).unwrap();
        world
            .tokens(&mut staging)
            .unwrap()
            .iter()
            .map(|token| token.rows)
            .collect::<Vec<_>>()
    };
    assert_eq!(staged(&[(1, "a", "x")]), [0; 0]);
    assert_eq!(staged(&[(2, "a", "y"), (3, "b", "y"), (4, "c", "y")]), [3]);
    assert_eq!(staged(&[(5, "abcdef", "x")]), [2]);
}

#[test]
fn a_large_file_closes_at_the_barrier_and_its_rows_are_not_kept() {
    let world = World::in_memory("filesystem", "json");
    let mut sink = world.sink("o1");
    let long = "x".repeat(1 << 20).leak();
    let rows: Vec<Row> = vec![(1, long, "x"); 10];
    sink.write(world.rows(&rows)).unwrap();
    let mut staging = sink.stage(1, false).unwrap();
    assert_eq!(world.tokens(&mut staging).unwrap(), []);
    assert_eq!(count(&carried(&staging.carry)), 10);
    assert_eq!(staging.carry.open.len(), 1);

    sink.write(world.rows(&rows)).unwrap();
    assert!(
        sink.buffered_bytes() < 22 << 20,
        "{} bytes",
        sink.buffered_bytes()
    );
    sink.write(world.rows(&[(2, "small", "y")])).unwrap();
    let mut staging = sink.stage(2, false).unwrap();
    assert_eq!(rows_of(&world.tokens(&mut staging).unwrap()), 20);
    assert_eq!(count(&carried(&staging.carry)), 1);
    assert_eq!(staging.carry.open.len(), 1);
}

#[test]
fn shrinking_closes_the_largest_file() {
    let world = World::in_memory("filesystem", "csv");
    let mut sink = world.sink("o1");
    sink.shrink().unwrap();
    let long = "x".repeat(1 << 16).leak();
    sink.write(world.rows(&[(1, "a", "x"), (2, long, "y"), (3, "c", "x")]))
        .unwrap();
    let before = sink.buffered_bytes();
    sink.shrink().unwrap();
    assert!(
        before >= 1 << 17 && sink.buffered_bytes() < 1 << 10,
        "{before}"
    );
    let mut staging = sink.stage(1, false).unwrap();
    assert_eq!(rows_of(&world.tokens(&mut staging).unwrap()), 1);
    assert_eq!(count(&carried(&staging.carry)), 2);
    assert_eq!(staging.carry.partitions, ["dt=x".to_string()].into());
}

#[test]
fn a_sign_stands_beside_the_files_and_is_none_of_them() {
    for (name, world) in worlds() {
        if name == "memory" {
            continue;
        }
        let (mut sink, publisher) = (world.sink("o1"), world.publisher());
        let rows = [(1, "a", "x"), (2, "b", "7:15"), (3, "c", "x")];
        sink.write(world.rows(&rows)).unwrap();
        let mut staging = sink.stage(1, true).unwrap();
        let tokens = world.tokens(&mut staging).unwrap();
        world.wait(publisher.publish(&tokens)).unwrap();
        for _ in 0..2 {
            world.wait(publisher.mark("dt=7%3A15", "_SUCCESS")).unwrap();
        }
        let sign = "lake/t/dt=7%3A15/_SUCCESS";
        let files = world.files("lake/t");
        assert!(files.contains(&sign.to_string()), "{name}: {files:?}");
        assert_eq!((files.len(), world.bytes(sign).len()), (3, 0), "{name}");
        // A partition that has only a sign has nothing to read.
        world.wait(publisher.mark("dt=y", "_SUCCESS")).unwrap();
        let partitions = world.wait(publisher.partitions()).unwrap();
        assert_eq!(
            partitions,
            ["dt=7%3A15".to_string(), "dt=x".to_string()].into(),
            "{name}"
        );
    }
}

#[test]
fn a_parquet_file_that_shrinks_stays_open_as_long_as_it_can() {
    let world = World::in_memory("filesystem", "parquet");
    let mut sink = world.sink("o1");
    let rows: Vec<Row> = vec![(1, "a name that is the same in every row", "x"); 10_000];
    sink.write(world.rows(&rows)).unwrap();
    let epoch = |sink: &mut Box<dyn crate::sink::Sink>| {
        let mut staging = sink.stage(1, false).unwrap();
        let closed = rows_of(&world.tokens(&mut staging).unwrap());
        (count(&carried(&staging.carry)), closed)
    };
    assert_eq!(epoch(&mut sink), (10_000, 0));

    // These rows are carried already: they are encoded, and the file goes on.
    let before = sink.buffered_bytes();
    sink.shrink().unwrap();
    let encoded = sink.buffered_bytes();
    assert!(10 * encoded < before, "{encoded} of {before} bytes");
    assert_eq!(epoch(&mut sink), (0, 0));

    // These would have to be carried yet: the file closes at the barrier instead.
    sink.write(world.rows(&rows)).unwrap();
    sink.shrink().unwrap();
    assert!(10 * sink.buffered_bytes() < before);
    assert_eq!(epoch(&mut sink), (0, 20_000));

    // There is nothing else to be had: the file closes at once.
    sink.write(world.rows(&rows)).unwrap();
    sink.shrink().unwrap();
    sink.shrink().unwrap();
    assert_eq!(sink.buffered_bytes(), 0);
    assert_eq!(epoch(&mut sink), (0, 10_000));
}

#[test]
fn too_many_partitions_close_the_one_that_was_idle_longest() {
    let world = World::in_memory("filesystem", "csv");
    let mut sink = world.sink("o1");
    for partition in 0..130 {
        world.clock.advance(Duration::from_millis(1));
        sink.write(world.rows(&[(partition, "a", partition.to_string().leak())]))
            .unwrap();
    }
    let mut staging = sink.stage(1, false).unwrap();
    let names: Vec<String> = world
        .tokens(&mut staging)
        .unwrap()
        .into_iter()
        .map(|token| token.name)
        .collect();
    assert_eq!(names.len(), 2);
    assert!(
        names[0].starts_with("dt=0/") && names[1].starts_with("dt=1/"),
        "{names:?}"
    );
    assert_eq!(staging.carry.open.len(), 128);
}
