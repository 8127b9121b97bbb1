//! Every committed input, through the property that it is of.
#![expect(clippy::expect_used, reason = "tests fail by panicking")]

use std::{
    fs, panic,
    path::Path,
    sync::atomic::{AtomicUsize, Ordering},
};

static PANICS: AtomicUsize = AtomicUsize::new(0);

#[test]
fn the_properties_hold_for_every_committed_input() {
    // A panic in a task is the runtime's to catch, and would go unnoticed.
    let told = panic::take_hook();
    panic::set_hook(Box::new(move |panic| {
        PANICS.fetch_add(1, Ordering::Relaxed);
        told(panic);
    }));
    aegis_properties::forgive_guarded_panics();
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("../corpus");
    for (name, property) in aegis_properties::ALL {
        let inputs = fs::read_dir(corpus.join(name)).expect("a folder of inputs");
        let mut checked = 0;
        for input in inputs {
            let path = input.expect("an input").path();
            eprintln!("{}", path.display());
            property(&fs::read(&path).expect("an input"));
            assert_eq!(PANICS.load(Ordering::Relaxed), 0, "{}", path.display());
            checked += 1;
        }
        assert!(checked > 0, "no input for {name}");
    }
}
