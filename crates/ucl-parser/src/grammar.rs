//! The grammar, and what its rules are called by people.

// What the derive makes has no documentation and is seen by this crate only.
#[allow(missing_docs, unreachable_pub)]
mod derived {
    #[derive(pest_derive::Parser)]
    #[grammar = "grammar/ucl.pest"]
    pub struct Ucl;
}

pub(crate) use derived::{Rule, Ucl};

use pest::Parser;
use pest::iterators::{Pair, Pairs};
use std::sync::Once;

/// Reads a text that has balanced brackets and closed strings.
pub(crate) fn read(
    rule: Rule,
    text: &str,
) -> Result<Pairs<'_, Rule>, Box<pest::error::Error<Rule>>> {
    static SETTINGS: Once = Once::new();
    // Global to the process: set here and nowhere else. The detail is the furthest position.
    SETTINGS.call_once(|| pest::set_error_detail(true));
    Ucl::parse(rule, text).map_err(Box::new)
}

/// The parts of a pair, without its keywords.
pub(crate) fn parts<'t>(pair: Pair<'t, Rule>) -> impl Iterator<Item = Pair<'t, Rule>> {
    pair.into_inner().filter(|part| keyword(part.as_rule()).is_none())
}

/// The text of a keyword's rule.
pub(crate) fn keyword(rule: Rule) -> Option<&'static str> {
    let name = called(rule);
    name.strip_prefix('`')
        .and_then(|name| name.strip_suffix('`'))
        .filter(|name| name.starts_with(|first: char| first.is_ascii_alphabetic()))
}

/// What a rule is called in a message. Every rule is listed: a new one has to be given a name.
pub(crate) fn called(rule: Rule) -> &'static str {
    match rule {
        Rule::EOI => "the end of the file",
        Rule::WHITESPACE | Rule::gap => "a blank",
        Rule::COMMENT => "a comment",
        Rule::file | Rule::strict_file => "a file",
        Rule::header => "`ucl 1`",
        Rule::declaration | Rule::next => "a model, a view, a layout or a test",
        Rule::model => "a model",
        Rule::model_item | Rule::model_next | Rule::strict_model => "a statement of a model",
        Rule::types | Rule::type_head => "a line of types",
        Rule::set | Rule::set_head => "a set",
        Rule::rest_of => "`not` and a set",
        Rule::set_name => "`in` and a set",
        Rule::item_head => "a statement of a model",
        Rule::dims => "a line of dims",
        Rule::dim => "a dim",
        Rule::size => "a size",
        Rule::param | Rule::param_head => "a parameter",
        Rule::dim_list => "dims",
        Rule::dim_name => "a dim",
        Rule::tied => "`tied` and a parameter",
        Rule::bias => "a bias",
        Rule::optional => "`?`",
        Rule::each | Rule::each_next => "an `each` block",
        Rule::each_item | Rule::strict_each => "a parameter",
        Rule::drop => "a line of dropped parameters",
        Rule::require => "a line of required parameters",
        Rule::paths => "parameters",
        Rule::from => "a `from` block",
        Rule::document => "`config`, `args` or `params`",
        Rule::from_line | Rule::from_next | Rule::strict_from => "a line of a `from` block",
        Rule::bound => "a dim",
        Rule::view => "a view",
        Rule::view_block => "a block of a view",
        Rule::view_item | Rule::view_next | Rule::strict_view => "a statement of a view",
        Rule::equation => "an equation",
        Rule::spelling => "a quoted name",
        Rule::terms => "a parameter",
        Rule::under => "an `under` block",
        Rule::rename => "a rename",
        Rule::ignore => "an `ignore` line",
        Rule::base => "a `base` line",
        Rule::class => "a `class` line",
        Rule::value => "a `shift` or `scale` line",
        Rule::shape => "a shape",
        Rule::factor => "a dim",
        Rule::one => "`1`",
        Rule::group => "a group in parentheses",
        Rule::sum | Rule::product => "dims",
        Rule::layout => "a layout",
        Rule::layout_for => "`for` and views",
        Rule::layout_item | Rule::layout_next | Rule::strict_layout => "a rule of a layout",
        Rule::mesh => "a mesh",
        Rule::axis => "a mesh axis",
        Rule::shard => "a `shard` or `stage` rule",
        Rule::shard_dims => "dims",
        Rule::shard_of => "`of` and parameters",
        Rule::shard_over => "mesh axes",
        Rule::rest => "`uneven` or `repeat`",
        Rule::uneven => "`uneven`",
        Rule::pad => "a `pad` rule",
        Rule::fill => "`zero`, `last` or `mean`",
        Rule::copy => "a `copy tied` rule",
        Rule::merge => "an `average` or `sum` rule",
        Rule::keep => "a `keep` rule",
        Rule::demand => "a `require` rule",
        Rule::test => "a test",
        Rule::test_item | Rule::test_next | Rule::test_resync | Rule::strict_test => {
            "a statement of a test"
        }
        Rule::test_size => "a size",
        Rule::meshes => "meshes",
        Rule::coords | Rule::place => "a mesh",
        Rule::coord => "an axis with a number",
        Rule::expect => "an `expect` line",
        Rule::index => "an index in brackets",
        Rule::element => "an element in brackets",
        Rule::lengths => "a shape in numbers",
        Rule::cond | Rule::both | Rule::compare => "a condition",
        Rule::relation => "a comparison",
        Rule::expr
        | Rule::negation
        | Rule::added
        | Rule::scaled
        | Rule::signed
        | Rule::fallback
        | Rule::primary
        | Rule::parens => "a number or a key",
        Rule::add_op | Rule::scale_op => "an operator",
        Rule::minus => "`-`",
        Rule::key => "a key",
        Rule::word_char | Rule::word => "a word",
        Rule::name => "a name",
        Rule::path | Rule::path_word | Rule::any_path => "a parameter",
        Rule::int => "a number",
        Rule::string => "a quoted name",
        Rule::open => "`{`",
        Rule::close => "`}`",
        Rule::template => "a quoted name",
        Rule::part_both => "`{weight,bias}`",
        Rule::part_count => "a count",
        Rule::part_index => "an index",
        Rule::hole_name => "a dim",
        Rule::part_any => "`*`",
        Rule::part_text => "text",
        Rule::bad_part
        | Rule::bad_declaration
        | Rule::bad_model_item
        | Rule::bad_each_item
        | Rule::bad_from_line
        | Rule::bad_view_item
        | Rule::bad_layout_item
        | Rule::bad_test_item
        | Rule::piece
        | Rule::braces
        | Rule::lump => "text that is no statement",
        Rule::reserved => "a reserved word",
        Rule::kw_ucl => "`ucl`",
        Rule::kw_model => "`model`",
        Rule::kw_view => "`view`",
        Rule::kw_layout => "`layout`",
        Rule::kw_test => "`test`",
        Rule::kw_dims => "`dims`",
        Rule::kw_each => "`each`",
        Rule::kw_from => "`from`",
        Rule::kw_drop => "`drop`",
        Rule::kw_require => "`require`",
        Rule::kw_tied => "`tied`",
        Rule::kw_bias => "`bias`",
        Rule::kw_under => "`under`",
        Rule::kw_rename => "`rename`",
        Rule::kw_ignore => "`ignore`",
        Rule::kw_base => "`base`",
        Rule::kw_class => "`class`",
        Rule::kw_shift => "`shift`",
        Rule::kw_scale => "`scale`",
        Rule::kw_mesh => "`mesh`",
        Rule::kw_shard => "`shard`",
        Rule::kw_stage => "`stage`",
        Rule::kw_pad => "`pad`",
        Rule::kw_copy => "`copy`",
        Rule::kw_average => "`average`",
        Rule::kw_sum => "`sum`",
        Rule::kw_on => "`on`",
        Rule::kw_expect => "`expect`",
        Rule::kw_when => "`when`",
        Rule::kw_with => "`with`",
        Rule::kw_extends => "`extends`",
        Rule::kw_for => "`for`",
        Rule::kw_by => "`by`",
        Rule::kw_over => "`over`",
        Rule::kw_of => "`of`",
        Rule::kw_to => "`to`",
        Rule::kw_at => "`at`",
        Rule::kw_or => "`or`",
        Rule::kw_declared => "`declared`",
        Rule::kw_type => "`type`",
        Rule::kw_set => "`set`",
        Rule::kw_in => "`in`",
        Rule::kw_config => "`config`",
        Rule::kw_args => "`args`",
        Rule::kw_params => "`params`",
        Rule::kw_keep => "`keep`",
        Rule::kw_uneven => "`uneven`",
        Rule::kw_repeat => "`repeat`",
        Rule::kw_global => "`global`",
        Rule::kw_zero => "`zero`",
        Rule::kw_last => "`last`",
        Rule::kw_mean => "`mean`",
        Rule::kw_if => "`if`",
        Rule::kw_else => "`else`",
        Rule::kw_not => "`not`",
        Rule::kw_and => "`and`",
        Rule::kw_true => "`true`",
        Rule::kw_false => "`false`",
    }
}
