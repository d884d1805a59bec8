//! The decoders, both directions: any split of any good stream gives the frames that it was made of, of any kind and size.

#[path = "../fuzz/check.rs"]
#[expect(dead_code, unreachable_pub, reason = "shared with the fuzz targets")]
mod check;
#[path = "../fuzz/good_streams.rs"]
#[expect(unreachable_pub, reason = "shared with the fuzz targets")]
mod good_streams;

use proptest::collection::vec;
use proptest::prelude::*;

proptest! {
    #[test]
    fn any_split_of_any_good_requests_gives_the_frames_they_are_made_of(script in vec(any::<u8>(), 1..150)) {
        check::good_requests(&script);
    }

    #[test]
    fn any_split_of_any_good_replies_gives_the_frames_they_are_made_of(script in vec(any::<u8>(), 1..150)) {
        check::good_replies(&script);
    }
}

/// A stream in which one frame follows another of every kind, cut in every place.
#[test]
fn every_kind_of_frame_is_read_in_two_pieces_cut_anywhere() {
    for what in 0..12 {
        // A call id of two bytes, then fields of moderate size.
        let request = [2, what, 2, 1, 1, 5, 3, 200, 1, 9, 4, 1, 77, 1, 88, 4, 30, 0];
        for script in [[&request[..], &request[1..]].concat(), [&[what % 2], &request[1..]].concat()] {
            check::requests_in_two(&good_streams::requests(&script));
        }
        let reply = [what, 2, 1, 1, 4, 30, 0];
        check::replies_in_two(&good_streams::replies(&[&reply[..], &reply[..]].concat()));
    }
}
