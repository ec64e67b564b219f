//! HOP and CUMULATE put a row into several windows. Only a GROUP BY of the window's bounds counts it in each; whatever else would read such
//! windows is refused.

use super::draft::{Drafts, Expr};
use super::{NodeId, Op, Window};
use crate::error::Result;
use crate::sql::Place;
use crate::sql::functions::WindowBound;
use crate::sql::refusal::refuse;
use datafusion::physical_expr::ScalarFunctionExpr;

/// Refuses them in the whole graph, before columns that nobody reads are taken out of it.
pub fn check(drafts: &Drafts, path: &str) -> Result<()> {
    for node in &drafts.nodes {
        if matches!(node.op, Op::Sink(_)) {
            for input in &node.inputs {
                follow(drafts, *input, None, path)?;
            }
        }
    }
    Ok(())
}

/// The same afterwards: the bounds themselves come out of the aggregation, and nothing before it can know them.
pub fn check_bounds(drafts: &Drafts, path: &str) -> Result<()> {
    for node in &drafts.nodes {
        let exprs = match &node.op {
            Op::Project { exprs } => exprs.as_slice(),
            Op::Filter { predicate } => std::slice::from_ref(predicate),
            _ => &[],
        };
        if let Some(bound) = exprs.iter().find_map(overlapping) {
            return Err(refusal(path, bound.place));
        }
    }
    Ok(())
}

/// Towards the sources; `counted` are the windows of an aggregation that reads these very rows.
fn follow(drafts: &Drafts, id: NodeId, counted: Option<Window>, path: &str) -> Result<()> {
    let node = &drafts.nodes[id];
    let counted = match &node.op {
        Op::Window(window) => Some(window.window),
        Op::Project { exprs } => match exprs.iter().find_map(overlapping) {
            Some(bound) if Some(bound.window) == counted => None,
            Some(bound) => return Err(refusal(path, bound.place)),
            None => counted,
        },
        Op::Filter { .. } => counted,
        _ => None,
    };
    let mut inputs = node.inputs.iter();
    inputs.try_for_each(|input| follow(drafts, *input, counted, path))
}

/// A bound of a window that overlaps others, where an expression asks for one.
fn overlapping(expr: &Expr) -> Option<&WindowBound> {
    let call = expr.downcast_ref::<ScalarFunctionExpr>();
    let bound = call.and_then(|call| call.fun().inner().downcast_ref::<WindowBound>());
    match bound {
        Some(bound) if !matches!(bound.window, Window::Tumble { .. }) => Some(bound),
        _ => expr.children().into_iter().find_map(overlapping),
    }
}

fn refusal(path: &str, place: Place) -> crate::error::Error {
    let message = "HOP and CUMULATE put a row into several windows, and only an aggregation counts it in each";
    let hint = "GROUP BY window_start, window_end first; what follows can read its result";
    refuse(path, place, message, hint)
}
