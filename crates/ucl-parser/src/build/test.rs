//! Tests.

use super::{Build, Match, of};
use crate::ast::{Expect, Pin, Spanned, Test, TestItem};
use crate::grammar::{Rule, parts};
use ucl_ir::{Diagnostic, Mesh};

impl Build<'_> {
    pub(super) fn test(&mut self, pair: Match<'_>) -> Test {
        let span = self.span(&pair);
        let items = parts(pair).filter_map(|part| self.test_item(part)).collect();
        Test { items, span }
    }

    fn test_item(&mut self, pair: Match<'_>) -> Option<TestItem> {
        Some(match pair.as_rule() {
            Rule::test_size => {
                let name = self.first_name(&pair)?;
                let size = of(pair, Rule::int).next().map(|size| self.int(&size))?;
                TestItem::Size(name, size)
            }
            Rule::meshes => {
                TestItem::On(of(pair, Rule::coords).map(|mesh| self.coords(mesh)).collect())
            }
            Rule::expect => TestItem::Expect(Box::new(self.expect(pair)?)),
            _ => return None,
        })
    }

    fn expect(&mut self, pair: Match<'_>) -> Option<Expect> {
        let span = self.span(&pair);
        let view = self.first_name(&pair)?;
        let mut names = of(pair.clone(), Rule::name).map(|name| self.name(&name)).skip(1);
        let layout = names.next();
        drop(names);
        let mut places = of(pair.clone(), Rule::place).map(|place| self.coords(place));
        let (mesh, rank) = (places.next()?, places.next()?);
        drop(places);
        let name = of(pair.clone(), Rule::string).next().map(|name| self.plain(&name))?;
        let pin = self.pin(pair)?;
        Some(Expect { view, layout, mesh, rank, name, pin, span })
    }

    fn pin(&mut self, pair: Match<'_>) -> Option<Pin> {
        let shape = of(pair.clone(), Rule::lengths).next();
        if let Some(shape) = shape {
            let span = self.span(&shape);
            let value = of(shape, Rule::int).map(|number| self.int(&number).value).collect();
            return Some(Pin::Shape(Spanned { value, span }));
        }
        let index = of(pair.clone(), Rule::index).flat_map(|index| of(index, Rule::int));
        let index = index.map(|number| self.int(&number).value).collect();
        let param = of(pair.clone(), Rule::path).next().map(|path| self.name(&path))?;
        let at = of(pair, Rule::element).next().map(|element| self.coords(element))?;
        Some(Pin::Element { index, param, at })
    }

    /// `tp=2 pp=2`, in any order; a name twice has no meaning.
    fn coords(&mut self, pair: Match<'_>) -> Spanned<Mesh> {
        let span = self.span(&pair);
        let mut value = Mesh::new();
        for coord in of(pair, Rule::coord) {
            let Some(name) = self.first_name(&coord) else { continue };
            let Some(number) = of(coord, Rule::int).next() else { continue };
            let number = self.int(&number).value;
            if value.insert(name.value.clone(), number).is_some() {
                self.found.push(
                    Diagnostic::new("ucl::twice", format!("`{}` stands here twice", name.value))
                        .at(name.span, "was given a number before")
                        .help("leave one of them out"),
                );
            }
        }
        Spanned { value, span }
    }
}
