//! Models and the shapes of dims.

use super::{Build, Match, has, of};
use crate::ast::{
    Bias, DimDecl, DimValue, Each, EachItem, Factor, FactorKind, File, From, Model, ModelItem,
    Name, Param, SetDecl, SetRule, Shape, Spanned, Sum, Types,
};
use crate::grammar::{Rule, parts};
use ucl_ir::{Diagnostic, Document};

impl Build<'_> {
    /// A file has one model, and it comes first.
    pub(super) fn model_in(&mut self, pair: Match<'_>, file: &mut File) {
        let Some(model) = self.model(pair) else { return };
        if let Some(first) = &file.model {
            self.found.push(
                Diagnostic::new(
                    "ucl::second-model",
                    format!("a second model, `{}`", model.name.value),
                )
                .at(model.name.span, "a file has one model")
                .at(first.name.span, "this is the first one")
                .help(format!("put it into a file of its own, `{}.ucl`", model.name.value)),
            );
            return;
        }
        if !(file.views.is_empty() && file.layouts.is_empty() && file.tests.is_empty()) {
            self.found.push(
                Diagnostic::new(
                    "ucl::order",
                    format!("model `{}` does not come first", model.name.value),
                )
                .at(model.name.span, "views and layouts above speak of it")
                .help("move the model to the top, right below `ucl 1`"),
            );
        }
        file.model = Some(model);
    }

    fn model(&mut self, pair: Match<'_>) -> Option<Model> {
        let name = self.first_name(&pair)?;
        let extends = self.extends(&pair);
        let span = self.span(&pair);
        let items = parts(pair).filter_map(|part| self.model_item(part)).collect();
        Some(Model { name, extends, items, span })
    }

    fn model_item(&mut self, pair: Match<'_>) -> Option<ModelItem> {
        Some(match pair.as_rule() {
            Rule::types => ModelItem::Types(self.types(pair)),
            Rule::set => ModelItem::Set(self.set(pair)?),
            Rule::dims => ModelItem::Dims(self.dims(pair)),
            Rule::param => ModelItem::Param(self.param(pair)?),
            Rule::each => ModelItem::Each(self.each(pair)?),
            Rule::drop => ModelItem::Drop(self.names(pair)),
            Rule::require => ModelItem::Require(self.names(pair)),
            Rule::from => ModelItem::From(self.from(pair)?),
            _ => return None,
        })
    }

    fn types(&mut self, pair: Match<'_>) -> Types {
        let span = self.span(&pair);
        let names: Vec<Name> = of(pair, Rule::string).map(|name| self.text(&name)).collect();
        for name in names.iter().filter(|name| name.value.trim().is_empty()) {
            self.found.push(
                Diagnostic::new("ucl::type", "this type is empty")
                    .at(name.span, "no `model_type` is called so")
                    .help("write what config.json says behind `model_type`, or take it out"),
            );
        }
        Types { names, span }
    }

    fn set(&mut self, pair: Match<'_>) -> Option<SetDecl> {
        let span = self.span(&pair);
        let mut names = of(pair.clone(), Rule::name).map(|name| self.name(&name));
        let (name, dim) = (names.next()?, names.next()?);
        drop(names);
        let mut def = None;
        for part in parts(pair) {
            match part.as_rule() {
                Rule::cond => def = self.cond(part).map(SetRule::When),
                Rule::rest_of => def = self.names(part).pop().map(SetRule::Not),
                _ => {}
            }
        }
        Some(SetDecl { name, dim, def, span })
    }

    pub(super) fn dims(&mut self, pair: Match<'_>) -> Vec<DimDecl> {
        of(pair, Rule::dim).filter_map(|dim| self.dim(dim)).collect()
    }

    fn dim(&mut self, pair: Match<'_>) -> Option<DimDecl> {
        let name = self.first_name(&pair)?;
        let def = match parts(pair).nth(1) {
            Some(sum) if sum.as_rule() == Rule::sum => Some(DimValue::Sum(self.sum(sum))),
            Some(size) => parts(size).next().map(|size| DimValue::Size(self.int(&size))),
            None => None,
        };
        Some(DimDecl { name, def })
    }

    fn param(&mut self, pair: Match<'_>) -> Option<Param> {
        let span = self.span(&pair);
        let optional = has(&pair, Rule::optional);
        let path = of(pair.clone(), Rule::path).next().map(|path| self.name(&path))?;
        self.declared(&path);
        let mut param = Param { path, optional, dims: Vec::new(), tied: None, bias: None, span };
        for part in parts(pair) {
            match part.as_rule() {
                Rule::dim_list => param.dims = self.names(part),
                Rule::tied => param.tied = self.names(part).pop(),
                Rule::bias => param.bias = Some(self.bias(part)),
                _ => {}
            }
        }
        Some(param)
    }

    fn bias(&mut self, pair: Match<'_>) -> Bias {
        let span = self.span(&pair);
        let optional = has(&pair, Rule::optional);
        let dims = of(pair, Rule::dim_list).flat_map(|list| self.names(list)).collect();
        Bias { optional, dims, span }
    }

    fn each(&mut self, pair: Match<'_>) -> Option<Each> {
        let span = self.span(&pair);
        let dim = self.first_name(&pair)?;
        let set = of(pair.clone(), Rule::set_name).next().and_then(|set| self.names(set).pop());
        let mut items = Vec::new();
        for part in parts(pair) {
            match part.as_rule() {
                Rule::param => items.extend(self.param(part).map(EachItem::Param)),
                Rule::each => items.extend(self.each(part).map(EachItem::Each)),
                _ => {}
            }
        }
        Some(Each { dim, set, items, span })
    }

    pub(super) fn from(&mut self, pair: Match<'_>) -> Option<From> {
        let span = self.span(&pair);
        let named = of(pair.clone(), Rule::document).next()?;
        let value = match named.as_str().trim_end() {
            "config" => Document::Config,
            "args" => Document::Args,
            _ => Document::Params,
        };
        let document = Spanned { value, span: self.span(&named) };
        let lines = of(pair, Rule::from_line).filter_map(|line| self.binding_line(line)).collect();
        Some(From { document, lines, span })
    }

    fn binding_line(&mut self, pair: Match<'_>) -> Option<(Name, crate::ast::Expr)> {
        let mut inner = pair.into_inner();
        let name = self.name(&inner.next()?);
        let expr = self.expr(inner.next()?);
        Some((name, expr))
    }

    pub(super) fn shape(&mut self, pair: Match<'_>) -> Shape {
        let span = self.span(&pair);
        Shape { factors: self.factors(pair), span }
    }

    fn factors(&mut self, pair: Match<'_>) -> Vec<Factor> {
        of(pair, Rule::factor).filter_map(|factor| self.factor(factor)).collect()
    }

    fn factor(&mut self, pair: Match<'_>) -> Option<Factor> {
        let span = self.span(&pair);
        let inner = pair.into_inner().next()?;
        let kind = match inner.as_rule() {
            Rule::one => FactorKind::One,
            Rule::name => FactorKind::Name(inner.as_str().to_owned()),
            _ => FactorKind::Group(self.sum(inner.into_inner().next()?)),
        };
        Some(Factor { kind, span })
    }

    fn sum(&mut self, pair: Match<'_>) -> Sum {
        let span = self.span(&pair);
        let alternatives = of(pair, Rule::product).map(|product| self.factors(product)).collect();
        Sum { alternatives, span }
    }
}
