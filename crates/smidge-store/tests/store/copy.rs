//! Files on their way from one directory to another.

use std::fs;
use std::os::unix::fs::MetadataExt as _;

use smidge_store::copy::{Keep, Owners, Room, pack_changes, place_all};

use crate::fixture::{file, fixture, is_root, tar};

#[test]
fn an_owner_that_none_can_be_is_left_out() {
    let fixture = fixture();
    let to = fixture.path("to");
    fs::create_dir(&to).unwrap();
    let mut nobodys = file("f", "x");
    (nobodys.0.uid, nobodys.0.gid) = (u32::MAX, u32::MAX);
    let room = Room::host().unwrap();
    let place = room.find(&to, true).unwrap();
    place_all(&room, &place, Keep::Owner, &mut &tar(&[nobodys])[..]).unwrap();
    let owner = fs::metadata(to.join("f")).unwrap().uid();
    assert!(!is_root() || owner == 0);
}

#[test]
fn changes_that_cannot_be_in_a_layer_are_named() {
    let fixture = fixture();
    let upper = fixture.path("upper");
    fs::create_dir(&upper).unwrap();
    fs::write(upper.join(".wh.hosts"), "").unwrap();
    let error = pack_changes(&upper, Owners::Disk, &mut Vec::new()).unwrap_err();
    let text = crate::fixture::chain(&error);
    assert!(
        text.contains(".wh.hosts") && text.contains("means that something is gone"),
        "{text}"
    );
}
