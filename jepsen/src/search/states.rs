//! States and transitions as numbers.
//!
//! Models may have states on the heap and slow steps. Each distinct state is kept once and numbered; each
//! distinct pair of input and output is a *class*; each transition is computed once. The search then works on
//! integers.

use crate::hash::FastMap;
use crate::model::Model;

/// The number of a state.
pub(super) type StateId = u32;
/// The number of a class of equal operations.
pub(super) type Class = u32;

/// No state: the model does not permit the operation.
pub(super) const FORBIDDEN: StateId = u32::MAX;
/// Not computed yet.
const UNTRIED: StateId = u32::MAX - 1;
/// Rows are kept while the table has at most so many cells; with many classes it would be mostly holes.
const CELLS_MAX: usize = 1 << 20;

/// All states met, all classes, and the transitions between them.
pub(super) struct States<'m, M: Model> {
    model: &'m M,
    states: Vec<M::State>,
    ids: FastMap<M::State, StateId>,
    classes: Vec<(&'m M::Input, Option<&'m M::Output>)>,
    /// Row by state, column by class.
    table: Vec<StateId>,
    /// What does not fit the table.
    sparse: FastMap<(StateId, Class), StateId>,
}

impl<'m, M: Model> States<'m, M> {
    pub fn new(model: &'m M, initial: M::State, classes: Vec<(&'m M::Input, Option<&'m M::Output>)>) -> Self {
        let mut states = States {
            model,
            states: Vec::new(),
            ids: FastMap::default(),
            classes,
            table: Vec::new(),
            sparse: FastMap::default(),
        };
        states.intern(initial);
        states
    }

    /// The number of the initial state.
    pub const INITIAL: StateId = 0;

    pub fn state(&self, id: StateId) -> &M::State {
        &self.states[id as usize]
    }

    /// All states met so far.
    pub fn all(&self) -> &[M::State] {
        &self.states
    }

    pub fn bytes(&self) -> usize {
        self.states.len() * (size_of::<M::State>() * 2 + 32) + self.table.len() * 4 + self.sparse.len() * 24
    }

    /// The state after an operation of `class`, or [`FORBIDDEN`].
    #[inline]
    pub fn step(&mut self, from: StateId, class: Class) -> StateId {
        let cell = from as usize * self.classes.len() + class as usize;
        match self.table.get(cell) {
            Some(&UNTRIED) | None => self.step_slowly(from, class, cell),
            Some(&to) => to,
        }
    }

    /// See [`Model::is_on_the_way`].
    pub fn is_on_the_way(&self, state: StateId, read: Class) -> bool {
        let (input, output) = self.classes[read as usize];
        output.is_none_or(|output| self.model.is_on_the_way(&self.states[state as usize], input, output))
    }

    #[cold]
    fn step_slowly(&mut self, from: StateId, class: Class, cell: usize) -> StateId {
        if cell >= self.table.len()
            && let Some(to) = self.sparse.get(&(from, class))
        {
            return *to;
        }
        let (input, output) = self.classes[class as usize];
        let to = match self.model.step(&self.states[from as usize], input, output) {
            Some(state) => self.intern(state),
            None => FORBIDDEN,
        };
        match self.table.get_mut(cell) {
            Some(slot) => *slot = to,
            None => {
                self.sparse.insert((from, class), to);
            }
        }
        to
    }

    fn intern(&mut self, state: M::State) -> StateId {
        if let Some(id) = self.ids.get(&state) {
            return *id;
        }
        let id = self.states.len() as StateId;
        self.states.push(state.clone());
        self.ids.insert(state, id);
        let cells = self.states.len() * self.classes.len();
        if cells <= CELLS_MAX {
            self.table.resize(cells, UNTRIED);
        }
        id
    }
}
