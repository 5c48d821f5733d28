//! Views.

use super::{Build, Match, has, of};
use crate::ast::{
    Class, Equation, Rename, Shape, Spelling, Template, Under, Value, View, ViewItem,
};
use crate::grammar::{Rule, parts};
use ucl_ir::ValueOp;

impl Build<'_> {
    pub(super) fn view(&mut self, pair: Match<'_>) -> Option<View> {
        let name = self.first_name(&pair)?;
        let extends = self.extends(&pair);
        let span = self.span(&pair);
        let when = of(pair.clone(), Rule::cond).next().and_then(|cond| self.cond(cond));
        let items = of(pair, Rule::view_block).next().map(|block| self.view_items(block));
        Some(View { name, extends, when, items, span })
    }

    fn view_items(&mut self, block: Match<'_>) -> Vec<ViewItem> {
        parts(block).filter_map(|part| self.view_item(part)).collect()
    }

    fn view_item(&mut self, pair: Match<'_>) -> Option<ViewItem> {
        Some(match pair.as_rule() {
            Rule::equation => ViewItem::Equation(self.equation(pair)),
            Rule::under => ViewItem::Under(self.under(pair)),
            Rule::rename => ViewItem::Rename(self.rename(pair)?),
            Rule::ignore => ViewItem::Ignore(self.templates(pair, true).pop()?),
            Rule::base => {
                ViewItem::Base(of(pair, Rule::string).next().map(|text| self.plain(&text))?)
            }
            Rule::dims => ViewItem::Dims(self.dims(pair)),
            Rule::value => ViewItem::Value(self.value(pair)?),
            Rule::from => ViewItem::From(self.from(pair)?),
            Rule::class => ViewItem::Class(self.class(pair)?),
            _ => return None,
        })
    }

    fn equation(&mut self, pair: Match<'_>) -> Equation {
        let span = self.span(&pair);
        let spellings = of(pair.clone(), Rule::spelling).filter_map(|part| self.spelling(part));
        let spellings = spellings.collect();
        let mut shapes = of(pair.clone(), Rule::shape).map(|part| self.shape(part));
        let shape = shapes.next().unwrap_or(Shape { factors: Vec::new(), span });
        let declared = shapes.next();
        drop(shapes);
        let terms = of(pair, Rule::terms).flat_map(|terms| self.names(terms)).collect();
        Equation { spellings, shape, declared, terms, span }
    }

    fn spelling(&mut self, pair: Match<'_>) -> Option<Spelling> {
        let when_tied = has(&pair, Rule::kw_tied);
        Some(Spelling { template: self.templates(pair, false).pop()?, when_tied })
    }

    fn under(&mut self, pair: Match<'_>) -> Under {
        let span = self.span(&pair);
        let prefixes = self.templates(pair.clone(), false);
        let shape = of(pair.clone(), Rule::shape).next().map(|shape| self.shape(shape));
        // Without a shape the place of an empty one is in front of the block.
        let block = of(pair, Rule::view_block).next();
        let before = block.as_ref().map_or(span, |block| self.span(block));
        let none = ucl_ir::Span { end: before.start, ..before };
        let shape = shape.unwrap_or(Shape { factors: Vec::new(), span: none });
        let items = block.map(|block| self.view_items(block)).unwrap_or_default();
        Under { prefixes, shape, items, span }
    }

    fn rename(&mut self, pair: Match<'_>) -> Option<Rename> {
        let span = self.span(&pair);
        let mut names = self.templates(pair.clone(), false);
        let to = names.pop()?;
        Some(Rename { from: names.pop(), to, moved: self.names(pair), span })
    }

    fn value(&mut self, pair: Match<'_>) -> Option<Value> {
        let span = self.span(&pair);
        let op = if has(&pair, Rule::kw_shift) { ValueOp::Shift } else { ValueOp::Scale };
        let by = of(pair.clone(), Rule::expr).next().map(|expr| self.expr(expr))?;
        Some(Value { op, params: self.names(pair), by, span })
    }

    fn class(&mut self, pair: Match<'_>) -> Option<Class> {
        let mut quoted = of(pair.clone(), Rule::string).map(|string| self.plain(&string));
        let name = quoted.next()?;
        let types = quoted.collect();
        Some(Class { name, types, dtype: self.first_name(&pair) })
    }

    fn templates(&mut self, pair: Match<'_>, any: bool) -> Vec<Template> {
        of(pair, Rule::string).map(|string| self.template(&string, any)).collect()
    }
}
