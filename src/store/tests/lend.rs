//! Lending pieces of files that are on their way.

use tokio::sync::broadcast::error::TryRecvError;

use super::*;

/// A file of three pieces, the last a short one.
fn three() -> Vec<u8> {
    bytes(2 * PIECE_SIZE as usize + 77, 9)
}

fn piece(content: &[u8], index: usize) -> &[u8] {
    let span = expected(content).span(index);
    &content[span.start as usize..span.end as usize]
}

/// A store that promises these files.
fn promising(files: &[&[u8]]) -> (House, Store) {
    let house = House::new(1 << 30);
    let store = house.open();
    let entries: Vec<_> = files.iter().map(|file| vouched(&format!("pool/{}", expected(file).hash), file)).collect();
    publish(&store, 1, b"index", &entries);
    (house, store)
}

fn loan(store: &Store, content: &[u8]) -> Option<Arc<Loan>> {
    match store.offer(expected(content).hash).unwrap()?.of {
        Offered::Lent(loan) => Some(loan),
        Offered::Whole(_) => panic!("it is not whole"),
    }
}

#[test]
fn pieces_are_lent_one_by_one_and_told_apart_by_their_proof() {
    let content = three();
    let (_house, store) = promising(&[&content]);
    let mut changes = store.changes();
    let partial = store.begin(expected(&content)).unwrap();
    assert!(loan(&store, &content).is_none(), "nothing is lent yet");
    let write = |index| partial.write_at(expected(&content).span(index).start, piece(&content, index)).unwrap();

    write(0);
    partial.lend(0, Lent::FromMirror);
    assert_eq!(changes.try_recv(), Ok(Change::Lent(expected(&content))));
    write(2);
    partial.lend(2, Lent::Proven);
    assert_eq!(changes.try_recv(), Err(TryRecvError::Empty), "told once");
    let lent = loan(&store, &content).unwrap();
    assert_eq!(lent.pieces().iter().collect::<Vec<_>>(), [0, 2]);
    assert_eq!(lent.lent(&expected(&content).span(0)), Some(Lent::FromMirror));
    assert_eq!(lent.lent(&expected(&content).span(2)), Some(Lent::Proven));
    for unlent in [expected(&content).span(1), 0..PIECE_SIZE + 1, 5..5, 0..u64::MAX] {
        assert_eq!(lent.lent(&unlent), None, "{unlent:?}");
    }
    assert_eq!(lent.read(7, 100).unwrap(), content[7..107]);
    assert!(lent.read(PIECE_SIZE, 1).is_err());

    // A run of pieces is as good as its weakest; a proof is never taken back by a later word of the mirror.
    write(1);
    partial.lend(1, Lent::Proven);
    partial.lend(1, Lent::FromMirror);
    assert_eq!(lent.lent(&(PIECE_SIZE..expected(&content).size)), Some(Lent::Proven));
    assert_eq!(lent.lent(&(0..PIECE_SIZE + 1)), Some(Lent::FromMirror));
    partial.lend(0, Lent::Proven);
    assert_eq!(lent.lent(&(0..expected(&content).size)), Some(Lent::Proven));
    assert_eq!(lent.chain(), None);
    partial.lend_chain(verified(&content).chain().clone());
    assert_eq!(lent.chain().as_ref(), Some(verified(&content).chain()));
}

#[test]
fn what_is_taken_back_or_abandoned_is_not_read_any_more() {
    let content = three();
    let (_house, store) = promising(&[&content]);
    let mut changes = store.changes();
    let partial = store.begin(expected(&content)).unwrap();
    partial.write_at(0, &content).unwrap();
    partial.lend(0, Lent::FromMirror);
    partial.lend(1, Lent::Proven);
    let lent = loan(&store, &content).unwrap();
    assert!(lent.read(0, 10).is_ok());
    partial.unlend(0);
    assert!(lent.read(0, 10).is_err());
    assert_eq!(lent.pieces().iter().collect::<Vec<_>>(), [1]);
    partial.unlend(1);
    assert!(loan(&store, &content).is_none(), "no piece is lent");

    partial.lend(1, Lent::Proven);
    assert!(lent.read(PIECE_SIZE, 10).is_ok());
    drop(partial);
    assert!(lent.read(PIECE_SIZE, 10).is_err());
    assert!(loan(&store, &content).is_none());
    assert_eq!(changes.try_recv(), Ok(Change::Lent(expected(&content))));
    assert_eq!(changes.try_recv(), Ok(Change::Withdrawn(expected(&content).hash)));
}

#[test]
fn a_file_that_is_kept_is_offered_whole_and_who_reads_a_piece_reads_on() {
    let content = three();
    let (_house, store) = promising(&[&content]);
    let mut changes = store.changes();
    let partial = store.begin(expected(&content)).unwrap();
    partial.write_at(0, &content).unwrap();
    partial.lend(2, Lent::Proven);
    let lent = loan(&store, &content).unwrap();
    let kept = vouched(&format!("pool/{}", expected(&content).hash), &content);
    store.commit(partial, verified(&content), &kept).unwrap();
    assert_eq!(lent.read(2 * PIECE_SIZE, 77).unwrap(), content[2 * PIECE_SIZE as usize..]);
    let offer = store.offer(expected(&content).hash).unwrap().unwrap();
    assert!(matches!(offer.of, Offered::Whole(blob) if blob.expected == expected(&content)));
    assert_eq!(changes.try_recv(), Ok(Change::Lent(expected(&content))));
    assert_eq!(changes.try_recv(), Ok(Change::Stored(expected(&content).hash)));
    assert_eq!(changes.try_recv(), Err(TryRecvError::Empty));
}

#[test]
fn private_and_superseded_files_and_those_of_one_piece_are_never_lent() {
    let (small, old, secret) = (bytes(PIECE_SIZE as usize, 1), three(), bytes(2 * PIECE_SIZE as usize, 3));
    let (_house, store) = promising(&[&small, &old]);
    publish(&store, 2, b"another", &[vouched("pool/small", &small)]);
    let hidden = private("pool/secret", &secret);
    store.record_release(hidden.repository(), "", day(1), "key", [hidden.clone()]).unwrap();
    for content in [&small, &old, &secret] {
        let partial = store.begin(expected(content)).unwrap();
        partial.write_at(0, content).unwrap();
        partial.lend(0, Lent::Proven);
        assert!(loan(&store, content).is_none());
    }
    assert_eq!(offered(&store), []);
}

#[test]
fn of_two_downloads_of_one_file_the_first_lends_and_the_other_takes_nothing_away() {
    let content = three();
    let (_house, store) = promising(&[&content]);
    let [first, second] = [(); 2].map(|()| {
        let partial = store.begin(expected(&content)).unwrap();
        partial.write_at(0, &content).unwrap();
        partial.lend(1, Lent::Proven);
        partial
    });
    drop(second);
    assert!(loan(&store, &content).unwrap().read(PIECE_SIZE, 10).is_ok());
    drop(first);
    assert!(loan(&store, &content).is_none());
}
