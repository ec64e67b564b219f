//! The bounds of a row's window.
//!
//! `TUMBLE` (and `HOP` and `CUMULATE`, where an aggregation follows) becomes three columns, `window_start`, `window_end` and `window_time`, made by this function. The planner
//! knows them again by it: a GROUP BY over them is a window aggregation.

use crate::plan::{Window, tumble_start};
use crate::sql::Place;
use crate::time::EventTime;
use arrow::array::AsArray;
use arrow::datatypes::{DataType, TimeUnit, TimestampMillisecondType};
use datafusion::common::{Result, exec_err};
use datafusion::logical_expr::{
    ColumnarValue, Expr, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility,
};
use std::hash::{Hash, Hasher};
use std::sync::Arc;

/// Which of the three columns.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Bound {
    Start,
    End,
    /// The last moment of the window: its event time.
    Time,
}

/// A bound of the window that holds the moment of the argument.
#[derive(Debug, Clone)]
pub struct WindowBound {
    pub window: Window,
    pub bound: Bound,
    /// Where the window's clause stands. Two windows that differ only here are the same.
    pub place: Place,
    signature: Signature,
}

/// The column of a bound.
pub fn window_bound(time: Expr, window: Window, bound: Bound, place: Place) -> Expr {
    let signature = Signature::any(1, Volatility::Immutable);
    ScalarUDF::from(WindowBound {
        window,
        bound,
        place,
        signature,
    })
    .call(vec![time])
}

impl PartialEq for WindowBound {
    fn eq(&self, other: &Self) -> bool {
        (self.window, self.bound) == (other.window, other.bound)
    }
}

impl Eq for WindowBound {}

impl Hash for WindowBound {
    fn hash<H: Hasher>(&self, state: &mut H) {
        (self.window, self.bound).hash(state);
    }
}

impl ScalarUDFImpl for WindowBound {
    fn name(&self) -> &str {
        match self.bound {
            Bound::Start => "window_start",
            Bound::End => "window_end",
            Bound::Time => "window_time",
        }
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    /// `window_start` and `window_end` are plain timestamps; `window_time` has the type of the event time.
    fn return_type(&self, types: &[DataType]) -> Result<DataType> {
        Ok(match (self.bound, &types[0]) {
            (Bound::Time, DataType::Timestamp(_, zone)) => {
                DataType::Timestamp(TimeUnit::Millisecond, zone.clone())
            }
            _ => DataType::Timestamp(TimeUnit::Millisecond, None),
        })
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let times = args.args[0].to_array(args.number_rows)?;
        let Some(times) = times.as_primitive_opt::<TimestampMillisecondType>() else {
            return exec_err!("a window needs a TIMESTAMP(3)");
        };
        let Window::Tumble { size_ms, offset_ms } = self.window else {
            return exec_err!("a moment is in several windows of HOP and CUMULATE");
        };
        let bounds = times.unary::<_, TimestampMillisecondType>(|at| {
            let start = tumble_start(EventTime(at), size_ms, offset_ms).0;
            match self.bound {
                Bound::Start => start,
                Bound::End => start + size_ms,
                Bound::Time => start + size_ms - 1,
            }
        });
        let zone = match args.return_type() {
            DataType::Timestamp(_, zone) => zone.clone(),
            _ => None,
        };
        Ok(ColumnarValue::Array(Arc::new(
            bounds.with_timezone_opt(zone),
        )))
    }
}
