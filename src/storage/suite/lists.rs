//! Promises about listings.

use super::Area;
use crate::storage::store::Page;

/// In the byte order of keys, in which `a.b` comes before `a/b`, and `a/b` before `a0`.
const NAMES: [&str; 10] = ["B", "a", "a b", "a.b", "a/b", "a/b/c", "a/b/d", "a/c/d", "a0", "ü/x"];

async fn fill(area: &Area) {
    for name in NAMES.iter().rev() {
        area.put(name, name).await;
    }
}

fn names(area: &Area, page: &Page) -> Vec<String> {
    page.objects.iter().map(|one| one.key.as_str().strip_prefix(&area.prefix).unwrap().to_owned()).collect()
}

fn folders(area: &Area, page: &Page) -> Vec<String> {
    page.prefixes.iter().map(|name| name.strip_prefix(&area.prefix).unwrap().to_owned()).collect()
}

pub(super) async fn a_list_is_in_byte_order(area: Area) {
    fill(&area).await;
    let page = area.store.list(&area.prefix(""), None, 1000, false).await.unwrap();
    assert_eq!(names(&area, &page), NAMES);
    assert_eq!((page.next, page.prefixes.len()), (None, 0));
    for listed in &page.objects {
        let meta = area.store.head(&listed.key).await.unwrap();
        assert_eq!(listed.size, meta.size);
        assert!(listed.version.as_ref().is_none_or(|version| *version == meta.version));
    }
    let empty = area.store.list(&area.prefix("none/"), None, 10, false).await.unwrap();
    assert_eq!(empty, Page::default());
}

pub(super) async fn a_list_goes_on_after_any_key(area: Area) {
    fill(&area).await;
    for limit in [1, 2, 3, NAMES.len()] {
        let mut seen = Vec::new();
        let mut after = None;
        loop {
            let page = area.store.list(&area.prefix(""), after.as_deref(), limit, false).await.unwrap();
            assert!(page.objects.len() <= limit);
            seen.extend(names(&area, &page));
            after = page.next;
            if after.is_none() {
                break;
            }
        }
        assert_eq!(seen, NAMES, "in pages of {limit}");
    }
    // The key to go on after may be gone meanwhile, or never have been.
    let after = area.key("a/b/cc").to_string();
    let page = area.store.list(&area.prefix(""), Some(&after), 2, false).await.unwrap();
    assert_eq!(names(&area, &page), ["a/b/d", "a/c/d"]);
    let after = area.key("zzz").to_string();
    let page = area.store.list(&area.prefix("a"), Some(&after), 2, false).await.unwrap();
    assert_eq!(page, Page::default());
}

pub(super) async fn a_list_by_folder_sums_up(area: Area) {
    fill(&area).await;
    let page = area.store.list(&area.prefix(""), None, 1000, true).await.unwrap();
    assert_eq!(names(&area, &page), ["B", "a", "a b", "a.b", "a0"]);
    assert_eq!(folders(&area, &page), ["a/", "ü/"]);
    let page = area.store.list(&area.prefix("a/"), None, 1000, true).await.unwrap();
    assert_eq!(
        (names(&area, &page), folders(&area, &page)),
        (vec!["a/b".into()], vec!["a/b/".into(), "a/c/".into()])
    );
    let (mut seen, mut after) = (Vec::new(), None);
    loop {
        let page = area.store.list(&area.prefix(""), after.as_deref(), 1, true).await.unwrap();
        seen.extend(names(&area, &page));
        seen.extend(folders(&area, &page));
        after = page.next;
        if after.is_none() {
            break;
        }
    }
    assert_eq!(seen, ["B", "a", "a b", "a.b", "a/", "a0", "ü/"]);
}

pub(super) async fn a_prefix_need_not_end_at_a_slash(area: Area) {
    fill(&area).await;
    let page = area.store.list(&area.prefix("a/b"), None, 1000, false).await.unwrap();
    assert_eq!(names(&area, &page), ["a/b", "a/b/c", "a/b/d"]);
    let page = area.store.list(&area.prefix("a"), None, 1000, true).await.unwrap();
    assert_eq!(
        (names(&area, &page), folders(&area, &page)),
        (vec!["a".into(), "a b".into(), "a.b".into(), "a0".into()], vec!["a/".into()])
    );
}
