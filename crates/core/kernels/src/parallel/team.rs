//! Threads of the pool that stay with a pass: they wait awake for its next loop, so that no loop has to wake them.
//!
//! A network of many small layers is as many loops, each shorter than a thread takes to fall asleep and to be woken. The thread that
//! runs the pass leads; threads of the pool join at its first loop and leave where nothing comes for a while ([`PATIENCE`]),
//! within a pass or behind it. A loop that nobody joins is done by the leader alone, so that no pass waits for a thread that is
//! busy elsewhere.

use std::any::Any;
use std::cell::{Cell, UnsafeCell};
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// How long a member waits for the next loop.
const PATIENCE: Duration = Duration::from_micros(200);
/// Looks at the loop between two looks at the clock.
const LOOKS: usize = 64;

/// What runs an item.
type Item<'a> = dyn Fn(usize) + Sync + 'a;

/// A cache line of its own: members look at one field while the leader writes another.
#[repr(align(64))]
#[derive(Default)]
struct Line<T>(T);

#[derive(Default)]
struct Team {
    /// Number of the loop that may be joined; 0 where there is none.
    open: Line<AtomicUsize>,
    /// The next item of the loop.
    next: Line<AtomicUsize>,
    /// Members that may be at an item.
    inside: Line<AtomicUsize>,
    /// Members that have been called and have not left.
    members: Line<AtomicUsize>,
    /// Loops so far.
    loops: AtomicUsize,
    /// The loop: what runs an item, and how many there are.
    work: UnsafeCell<Option<(*const Item<'static>, usize)>>,
    panic: Mutex<Option<Box<dyn Any + Send>>>,
}

// SAFETY: `work` is written by the leader while no loop is open and no member inside, and read by members that are inside an open
// one (`Team::join`); what it points to is `Sync`. All else is atomic or locked.
unsafe impl Send for Team {}
// SAFETY: as above.
unsafe impl Sync for Team {}

thread_local! {
    /// The team of this thread, which members may still belong to from an earlier pass.
    static TEAM: Arc<Team> = Arc::default();
    /// Whether this thread is in a pass and not at an item: its loops are the team's.
    static LEADS: Cell<bool> = const { Cell::new(false) };
}

/// Sets [`LEADS`] until it is dropped.
struct Leads(bool);

impl Leads {
    fn set(to: bool) -> Self {
        Leads(LEADS.replace(to))
    }
}

impl Drop for Leads {
    fn drop(&mut self) {
        LEADS.set(self.0);
    }
}

/// Runs `work`, a pass, on this thread at the head of a team.
pub(super) fn lead<R>(work: impl FnOnce() -> R) -> R {
    let _leads = Leads::set(rayon::current_num_threads() > 1);
    work()
}

/// Runs `item(0..items)` with the team that this thread leads; false where it leads none.
pub(super) fn run(items: usize, item: &Item<'_>) -> bool {
    if !LEADS.get() {
        return false;
    }
    let team = TEAM.with(Arc::clone);
    {
        // Loops within an item are none of the team's.
        let _apart = Leads::set(false);
        team.share(items, item);
    }
    let panic = team.panic.lock().ok().and_then(|mut p| p.take());
    if let Some(panic) = panic {
        resume_unwind(panic);
    }
    true
}

impl Team {
    /// The leader's side of a loop. Ends, by panic too, when no member is at an item any more.
    fn share(self: &Arc<Self>, items: usize, item: &Item<'_>) {
        struct Close<'a>(&'a Team);
        impl Drop for Close<'_> {
            fn drop(&mut self) {
                self.0.open.0.store(0, SeqCst);
                let mut looks = 0usize;
                while self.0.inside.0.load(SeqCst) != 0 {
                    looks += 1;
                    // A member that has been put aside needs a processor, perhaps this one.
                    if looks.is_multiple_of(4 * LOOKS) {
                        std::thread::yield_now();
                    }
                    std::hint::spin_loop();
                }
            }
        }
        self.call(items.saturating_sub(1));
        // SAFETY: no loop is open and no member inside, so nobody reads. The lifetime of `item` is taken off; `Close` keeps this
        // function from ending before the last use.
        unsafe {
            *self.work.get() =
                Some((std::mem::transmute::<*const Item<'_>, *const Item<'static>>(item), items));
        }
        self.next.0.store(0, SeqCst);
        let close = Close(self);
        let number = self.loops.fetch_add(1, SeqCst) + 1;
        self.open.0.store(number, SeqCst);
        self.items(items, item);
        drop(close);
    }

    /// Calls members from the pool, up to `wanted` in all.
    fn call(self: &Arc<Self>, wanted: usize) {
        let wanted = wanted.min(rayon::current_num_threads() - 1);
        while self.members.0.load(SeqCst) < wanted {
            self.members.0.fetch_add(1, SeqCst);
            let (team, leader) = (Arc::clone(self), rayon::current_thread_index());
            rayon::spawn(move || {
                // A leader of the pool comes here where it waits for something else; it cannot wait for itself.
                if leader.is_none() || rayon::current_thread_index() != leader {
                    team.stay();
                }
                team.members.0.fetch_sub(1, SeqCst);
            });
        }
    }

    /// Runs items until none is left.
    fn items(&self, items: usize, item: &Item<'_>) {
        loop {
            let i = self.next.0.fetch_add(1, SeqCst);
            if i >= items {
                return;
            }
            item(i);
        }
    }

    /// The life of a member.
    fn stay(&self) {
        let (mut seen, mut looks, mut since) = (0, 0, Instant::now());
        loop {
            let number = self.open.0.load(SeqCst);
            if number != 0 && number != seen {
                self.join(number);
                (seen, looks, since) = (number, 0, Instant::now());
                continue;
            }
            looks += 1;
            if looks % LOOKS == 0 && since.elapsed() > PATIENCE {
                return;
            }
            std::hint::spin_loop();
        }
    }

    /// A member's side of a loop.
    fn join(&self, number: usize) {
        self.inside.0.fetch_add(1, SeqCst);
        // Open still: the leader will see this member inside and wait for it.
        if self.open.0.load(SeqCst) == number
            // SAFETY: written before the loop was opened, and not again before this member is out.
            && let Some((item, items)) = unsafe { *self.work.get() }
        {
            // SAFETY: `share` does not end before this member is out.
            let done = catch_unwind(AssertUnwindSafe(|| self.items(items, unsafe { &*item })));
            if let (Err(panic), Ok(mut place)) = (done, self.panic.lock()) {
                place.get_or_insert(panic);
            }
        }
        self.inside.0.fetch_sub(1, SeqCst);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

    use super::*;

    fn pool(threads: usize) -> rayon::ThreadPool {
        rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap()
    }

    /// Runs each item once, whoever does; how many threads took part.
    fn all_once(items: usize) -> usize {
        let counts: Vec<AtomicU64> = (0..items).map(|_| AtomicU64::new(0)).collect();
        let threads = Mutex::new(std::collections::HashSet::new());
        let led = run(items, &|i| {
            counts[i].fetch_add(1, Relaxed);
            threads.lock().unwrap().insert(std::thread::current().id());
        });
        assert!(led && counts.iter().all(|c| c.load(Relaxed) == 1));
        threads.into_inner().unwrap().len()
    }

    #[test]
    fn loops_of_all_lengths_run_each_item_once() {
        for threads in [2, 3, 8] {
            pool(threads).install(|| {
                lead(|| (0..3000).for_each(|i| assert!(all_once(i % 40) <= threads)));
            });
        }
        pool(1).install(|| lead(|| assert!(!run(3, &|_| ()), "nobody to share with")));
        assert!(!run(3, &|_| ()), "no pass");
    }

    #[test]
    fn members_come_and_leave() {
        pool(2).install(|| {
            lead(|| {
                for _ in 0..3 {
                    let threads = Mutex::new(std::collections::HashSet::new());
                    run(20, &|_| {
                        threads.lock().unwrap().insert(std::thread::current().id());
                        std::thread::sleep(Duration::from_millis(2));
                    });
                    assert_eq!(threads.into_inner().unwrap().len(), 2);
                    std::thread::sleep(PATIENCE * 200);
                    assert_eq!(TEAM.with(|t| t.members.0.load(SeqCst)), 0, "it has waited long enough");
                }
            });
        });
    }

    #[test]
    fn threads_outside_the_pool_lead_too() {
        let passes = || (0..300).for_each(|_| lead(|| assert!(all_once(6) <= rayon::current_num_threads())));
        if rayon::current_num_threads() > 1 {
            std::thread::scope(|s| (0..3).for_each(|_| drop(s.spawn(passes))));
        }
    }

    #[test]
    fn work_of_the_pool_within_a_pass_goes_on() {
        let pool = pool(2);
        let sum = |n: u64| {
            let (mut a, mut b) = (0, 0);
            rayon::join(|| a = (0..n).sum(), || b = (n..2 * n).sum());
            a + b
        };
        pool.install(|| {
            lead(|| {
                for n in 0..300 {
                    assert_eq!((all_once(5) > 0, sum(n)), (true, (0..2 * n).sum()));
                    // From within an item.
                    run(3, &|i| assert_eq!(sum(i as u64), (0..2 * i as u64).sum()));
                }
            });
        });
        // Two passes at once: each has a team, and both end.
        pool.install(|| {
            let pass = || lead(|| (0..500).for_each(|_| assert!(all_once(7) <= 2)));
            rayon::join(pass, pass);
        });
    }

    #[test]
    fn a_panic_ends_the_loop_and_reaches_the_leader() {
        pool(3).install(|| {
            lead(|| {
                for at in 0..200 {
                    let fall = || run(50, &|i| assert!(i != at % 50, "item {i}"));
                    let said = catch_unwind(AssertUnwindSafe(fall)).unwrap_err();
                    assert_eq!(said.downcast_ref::<String>(), Some(&format!("item {}", at % 50)));
                    all_once(9);
                }
            });
        });
    }
}
