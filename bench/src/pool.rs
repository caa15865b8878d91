//! One server for each way, started when it is first asked for, and kept.

use std::cell::RefCell;
use std::rc::Rc;

use anyhow::Result;

use crate::lab::Way;

/// Makes one of something.
type Make<'a, T> = Box<dyn Fn(Way) -> Result<T> + 'a>;

/// What has been made.
pub struct Pool<'a, T> {
    make: Make<'a, T>,
    made: RefCell<Vec<(Way, Rc<T>)>>,
}

impl<'a, T> Pool<'a, T> {
    /// Empty.
    pub fn new(make: impl Fn(Way) -> Result<T> + 'a) -> Pool<'a, T> {
        Pool { make: Box::new(make), made: RefCell::default() }
    }

    /// That of this way.
    pub fn get(&self, way: Way) -> Result<Rc<T>> {
        if let Some((_, there)) = self.made.borrow().iter().find(|(w, _)| *w == way) {
            return Ok(Rc::clone(there));
        }
        let new = Rc::new((self.make)(way)?);
        self.made.borrow_mut().push((way, Rc::clone(&new)));
        Ok(new)
    }
}
