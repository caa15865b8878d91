//! One server for each way (or other key), started when it is first asked for, and kept.

use std::cell::RefCell;
use std::rc::Rc;

use anyhow::Result;

/// Makes one server or other thing.
type Make<'a, K, T> = Box<dyn Fn(K) -> Result<T> + 'a>;

/// Everything that has been made.
pub struct Pool<'a, K, T> {
    make: Make<'a, K, T>,
    made: RefCell<Vec<(K, Rc<T>)>>,
}

impl<'a, K: Copy + PartialEq, T> Pool<'a, K, T> {
    /// An empty pool.
    pub fn new(make: impl Fn(K) -> Result<T> + 'a) -> Pool<'a, K, T> {
        Pool { make: Box::new(make), made: RefCell::default() }
    }

    /// The one for this key, made if it does not exist yet.
    pub fn get(&self, key: K) -> Result<Rc<T>> {
        if let Some((_, there)) = self.made.borrow().iter().find(|(k, _)| *k == key) {
            return Ok(Rc::clone(there));
        }
        let new = Rc::new((self.make)(key)?);
        self.made.borrow_mut().push((key, Rc::clone(&new)));
        Ok(new)
    }
}
