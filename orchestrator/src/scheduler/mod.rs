//! Who runs what, when: sessions of runners, matching, the reconciler.
