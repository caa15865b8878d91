//! The descriptor numbers of this process: what each is, and the ones that the shim keeps for itself.

mod hidden;
mod table;

pub(crate) use hidden::{Turn, close_hidden, duplicate_hidden, hide};
pub(crate) use table::{
    FD_SLOTS, Kind, Word, change, clear, is_endpoint, is_ours, is_registered_with, is_waited_for, kind, mark, marked,
    needs_us, note_registration, note_wait, put, take, used, word,
};
