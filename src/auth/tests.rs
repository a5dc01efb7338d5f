//! What [`super::Auth`] promises, seen from outside.
