//! Pushes in the middle of a collection, at each of its steps; and collections that break off at each of their steps.

use std::time::Duration;

use tokio::time::sleep;

use super::gc::{GRACE, collect, counts, eager, keys};
use super::*;
use crate::core::time::Clock;
use crate::maintenance::Progress;
use crate::storage::Store;
use crate::storage::faulty::{Fault, Faulty};
use crate::storage::memory::MemoryStore;

/// How a client comes to what its manifest needs.
#[derive(Debug, Clone, Copy)]
enum Way {
    /// Asks, and uploads what is not there.
    Ask,
    /// Uploads everything.
    Upload,
    /// Mounts from the repository that has it, or uploads.
    Mount,
}

/// A bucket with a live image, and the blobs of one that was never finished, older than the grace.
async fn bucket() -> TestRegistry {
    let registry = TestRegistry::with(eager(), None, None).await;
    push_image(&registry, "live", "v", b"layer").await;
    for blob in [&b"config"[..], b"old layer"] {
        push_blob(&registry, "old", blob).await;
    }
    push_blob(&registry, "old", b"dead").await;
    registry.clock.advance(GRACE);
    registry
}

async fn push(registry: &TestRegistry, way: Way) {
    let name = if matches!(way, Way::Mount) { "new" } else { "old" };
    for blob in [&b"config"[..], b"old layer"] {
        let digest = sha256(blob);
        let status = match way {
            Way::Upload => 0,
            Way::Ask => registry.send(head(&format!("/v2/{name}/blobs/{digest}"))).await.status,
            Way::Mount => {
                registry.send(post(&format!("/v2/new/blobs/uploads/?mount={digest}&from=old"))).await.status
            }
        };
        if status != 200 && status != 201 {
            push_blob(registry, name, blob).await;
        }
        // A client needs its time.
        sleep(Duration::from_millis(50)).await;
    }
    let answer = registry.send(put_manifest(name, "v", &image(b"config", b"old layer"))).await;
    assert_eq!(answer.status, 201, "{}", answer.text());
}

async fn check(registry: &TestRegistry, pushed: Option<Way>) {
    let fresh = registry.another(eager(), None).await;
    let mut images = vec![("live", &b"{}"[..], &b"layer"[..])];
    match pushed {
        None => {}
        Some(Way::Mount) => images.push(("new", b"config", b"old layer")),
        Some(_) => images.push(("old", b"config", b"old layer")),
    }
    for (name, config, layer) in images {
        assert_eq!(fresh.send(get(&format!("/v2/{name}/manifests/v"))).await.json(), image(config, layer));
        for blob in [config, layer] {
            let found = fresh.send(get(&format!("/v2/{name}/blobs/{}", sha256(blob)))).await;
            assert_eq!((found.status, found.bytes().as_ref()), (200, blob), "{name}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_push_at_any_step_of_a_collection_is_whole() {
    let mut steps = 0;
    for way in [Way::Ask, Way::Upload, Way::Mount] {
        let mut step = 0;
        loop {
            let registry = bucket().await;
            let faulty = Arc::new(Faulty::new(Arc::clone(&registry.store)));
            let collector = registry.another(eager(), Some(faulty.clone())).await;
            let start = faulty.calls();
            // The collection stops in front of this step for a while.
            faulty.fail_at(start + step, Fault::Delay(Duration::from_secs(7)));
            let collection = tokio::spawn(async move { collect(&collector).await });
            while faulty.calls() <= start + step && !collection.is_finished() {
                sleep(Duration::from_millis(10)).await;
            }
            let over = collection.is_finished();
            push(&registry, way).await;
            collection.await.unwrap();
            check(&registry, Some(way)).await;
            // What was dead and is not needed is gone, at the latest with the next one.
            collect(&registry).await;
            check(&registry, Some(way)).await;
            let dead = format!("oci/blobs/sha256/{}", Digest::sha256(b"dead").hex());
            assert!(!keys(&registry).await.contains(&dead), "{way:?} at {step}");
            if over {
                break;
            }
            step += 1;
        }
        steps += step;
    }
    assert!(steps > 60, "{steps}");
}

#[tokio::test(start_paused = true)]
async fn a_fault_at_any_step_of_a_collection_costs_nothing_that_lives_and_the_next_one_finishes() {
    let mut steps = 0;
    for fault in [Fault::Before, Fault::After, Fault::Failed, Fault::ShortBody, Fault::Throttled] {
        let mut step = 0;
        loop {
            let registry = bucket().await;
            let faulty = Arc::new(Faulty::new(Arc::clone(&registry.store)));
            let collector = registry.another(eager(), Some(faulty.clone())).await;
            let start = faulty.calls();
            faulty.fail_at(start + step, fault);
            let _ = collector.registry.collect_garbage(false, Progress::default()).await;
            let over = faulty.calls() <= start + step;
            faulty.heal();
            check(&registry, None).await;
            // What broke off is known to be dead after half an hour.
            registry.clock.advance(Duration::from_mins(31));
            let mut last = collect(&registry).await;
            check(&registry, None).await;
            for _ in 0..3 {
                last = collect(&registry).await;
            }
            assert_eq!(counts(&last), [], "{fault:?} at {step}");
            let dead = format!("oci/blobs/sha256/{}", Digest::sha256(b"dead").hex());
            assert!(!keys(&registry).await.contains(&dead), "{fault:?} at {step}");
            // And a push of what went is as good as any.
            push(&registry, Way::Ask).await;
            check(&registry, Some(Way::Ask)).await;
            if over {
                break;
            }
            step += 1;
        }
        steps = steps.max(step);
    }
    assert!(steps > 25, "{steps}");
}

#[tokio::test(start_paused = true)]
async fn a_process_that_stops_in_the_middle_holds_up_a_push_for_a_while_and_loses_nothing() {
    for step in 0..60 {
        let registry = bucket().await;
        let faulty = Arc::new(Faulty::new(Arc::clone(&registry.store)));
        let collector = registry.another(eager(), Some(faulty.clone())).await;
        faulty.fail_at(faulty.calls() + step, Fault::Delay(Duration::from_hours(9)));
        // Dropped where it stands, as by `kill -9`; its lease runs out.
        let work = collector.registry.collect_garbage(false, Progress::default());
        let over = tokio::time::timeout(Duration::from_mins(1), work).await.is_ok();
        registry.clock.advance(Duration::from_mins(31));
        collect(&registry).await;
        push(&registry, Way::Ask).await;
        check(&registry, Some(Way::Ask)).await;
        if over {
            assert!(step > 25, "{step}");
            return;
        }
    }
    panic!("a collection has fewer steps");
}

#[tokio::test(start_paused = true)]
async fn collections_that_overlap_and_pushes_between_them_lose_nothing() {
    for seed in 0..20 {
        let registry = bucket().await;
        let mut work = Vec::new();
        for number in 0..3_u64 {
            // Calls take different times, so that the steps of all mix.
            let faulty: Arc<dyn Store> =
                Arc::new(Faulty::slow(Arc::clone(&registry.store), seed * 7 + number, 30));
            let process = Arc::new(registry.another(eager(), Some(faulty)).await);
            work.push(tokio::spawn(async move {
                sleep(Duration::from_millis((seed * 37 + number * 211) % 900)).await;
                // Without the lease: as if all believed that they have it.
                process.collect_without_lease().await;
            }));
        }
        sleep(Duration::from_millis(seed * 450 % 9000)).await;
        let slow: Arc<dyn Store> = Arc::new(Faulty::slow(Arc::clone(&registry.store), seed, 30));
        push(&registry.another(eager(), Some(slow)).await, Way::Ask).await;
        for one in work {
            one.await.unwrap();
        }
        check(&registry, Some(Way::Ask)).await;
    }
}

/// A store whose clock is not ours: the grace is measured by the store's.
#[tokio::test(start_paused = true)]
async fn a_collector_whose_clock_runs_ahead_takes_nothing_early() {
    let store_clock = Clock::manual(crate::core::time::Timestamp::from_millis(1_700_000_000_000));
    let store: Arc<dyn Store> = Arc::new(MemoryStore::new(store_clock.clone()));
    let registry = TestRegistry::with(eager(), Some(store), None).await;
    push_blob(&registry, "a", b"young").await;
    registry.clock.advance(GRACE * 100);
    assert_eq!(counts(&collect(&registry).await), []);
    store_clock.advance(GRACE);
    assert_eq!(counts(&collect(&registry).await), [("blobs", 1), ("links", 1)]);
}
