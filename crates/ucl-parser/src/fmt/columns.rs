//! Columns.

use super::lines::{Line, Role};
use super::spacing::natural;
use crate::grammar::Rule;

const INDENT: usize = 2;

/// Aligns cells, so that every line is one cell.
pub(super) fn align(lines: &mut [Line]) {
    for rule in [Rule::equation, Rule::param, Rule::from_line, Rule::rename, Rule::expect] {
        for group in groups(lines, rule) {
            match rule {
                Rule::equation => equations(lines, group),
                _ => table(lines, &group),
            }
        }
    }
    for line in lines {
        line.cells = vec![natural(&line.cells, line.rule)];
    }
}

/// The lines that share columns. Equations and parameters do across blocks and other statements,
/// up to a blank line; the rest only where they follow each other.
fn groups(lines: &[Line], rule: Rule) -> Vec<Vec<usize>> {
    let across = matches!(rule, Rule::equation | Rule::param);
    let mut groups: Vec<Vec<usize>> = Vec::new();
    let mut open = false;
    for (number, line) in lines.iter().enumerate() {
        let new = number > 0 && lines[number - 1].declaration != line.declaration;
        open &= !(line.blank || new);
        if line.rule == Some(rule) {
            match groups.last_mut().filter(|_| open) {
                Some(group) => group.push(number),
                None => groups.push(vec![number]),
            }
            open = true;
        } else if !across && line.role != Role::Comment {
            open = false;
        }
    }
    groups
}

/// Aligns the equations of a group. Lines of several names do not make room for themselves.
fn equations(lines: &mut [Line], group: Vec<usize>) {
    for &number in &group {
        let cells = &mut lines[number].cells;
        // The widths of `declared` shapes are seen only beside each other.
        cells.resize(4, String::new());
    }
    declared(lines, &group);
    let several = |lines: &[Line], number: usize| lines[number].cells[0].contains("\" ");
    let (long, short): (Vec<usize>, Vec<usize>) =
        group.into_iter().partition(|&number| several(lines, number));
    let room = short.iter().map(|&number| end(&lines[number], 0)).max().unwrap_or(0);
    let (fits, long): (Vec<usize>, Vec<usize>) =
        long.into_iter().partition(|&number| end(&lines[number], 0) <= room);
    let mut all = [short, fits].concat();
    all.sort_unstable();
    table(lines, &all);
    // Those that stick out and follow each other are aligned with one another.
    for run in long.chunk_by(|a, b| a + 1 == *b) {
        names(lines, run);
        table(lines, run);
    }
}

/// Joins `declared …` to the shape in front of it.
fn declared(lines: &mut [Line], group: &[usize]) {
    let with = group.iter().filter(|&&number| !lines[number].cells[2].is_empty());
    let with: Vec<usize> = with.copied().collect();
    let room = with.iter().map(|&number| width(&lines[number].cells[1])).max().unwrap_or(0);
    for &number in group {
        let header = lines[number].cells.remove(2);
        if !header.is_empty() {
            let shape = &mut lines[number].cells[1];
            *shape = format!("{shape:room$} {header}");
        }
    }
}

/// Aligns the names of lines that have equally many.
fn names(lines: &mut [Line], run: &[usize]) {
    let split = |names: &str| -> Vec<String> {
        names
            .replace("\" or ", "\"\0or ")
            .replace("\" when ", "\"\0when ")
            .replace("tied or ", "tied\0or ")
            .split('\0')
            .map(str::to_owned)
            .collect()
    };
    let rows: Vec<Vec<String>> = run.iter().map(|&number| split(&lines[number].cells[0])).collect();
    let first_words =
        |row: &[String]| -> Vec<bool> { row.iter().map(|cell| cell.starts_with("when")).collect() };
    if rows.windows(2).any(|pair| first_words(&pair[0]) != first_words(&pair[1])) {
        return;
    }
    let columns = rows.first().map_or(0, Vec::len);
    let widths: Vec<usize> = (0..columns)
        .map(|column| rows.iter().map(|row| width(&row[column])).max().unwrap_or(0))
        .collect();
    for (row, &number) in rows.iter().zip(run) {
        let padded = row.iter().zip(&widths).map(|(cell, &width)| format!("{cell:width$}"));
        lines[number].cells[0] = padded.collect::<Vec<_>>().join(" ").trim_end().to_owned();
    }
}

/// Pads every cell but the last that a line has.
fn table(lines: &mut [Line], group: &[usize]) {
    let columns = group.iter().map(|&number| lines[number].cells.len()).max().unwrap_or(0);
    for column in 0..columns.saturating_sub(1) {
        let reaches = |line: &Line| line.cells.get(column + 1).is_some_and(|cell| !cell.is_empty());
        let ends = group.iter().filter(|&&number| reaches(&lines[number]));
        let room = ends.map(|&number| end(&lines[number], column)).max().unwrap_or(0);
        for &number in group {
            let line = &mut lines[number];
            if reaches(line) {
                let pad = room - end(line, column);
                line.cells[column].push_str(&" ".repeat(pad));
            }
        }
    }
}

/// Where a cell ends, the cells in front being padded already.
fn end(line: &Line, column: usize) -> usize {
    let widths = line.cells[..=column].iter().map(|cell| width(cell) + 1);
    line.depth * INDENT + widths.sum::<usize>() - 1
}

fn width(cell: &str) -> usize {
    cell.chars().count()
}

/// The lines as text, with the comments of a block in one column.
pub(super) fn text(lines: &[Line]) -> String {
    let code: Vec<String> = lines.iter().map(code).collect();
    let mut result = String::new();
    for (number, line) in lines.iter().enumerate() {
        if line.blank {
            result.push('\n');
        }
        result.push_str(&code[number]);
        if let Some(comment) = &line.comment {
            let alone = code[number].trim().is_empty();
            let column = if alone { 0 } else { comment_column(lines, &code, number) + 2 };
            let pad = column.saturating_sub(width(&code[number]));
            result.push_str(&" ".repeat(pad));
            result.push_str(comment);
        }
        result.push('\n');
    }
    result
}

fn code(line: &Line) -> String {
    let more = if line.role == Role::Rest { 2 * INDENT } else { 0 };
    let indent = " ".repeat(line.depth * INDENT + more);
    let code = format!("{indent}{}", line.cells.join(" "));
    if line.cells.iter().all(String::is_empty) { indent } else { code.trim_end().to_owned() }
}

/// How wide the widest commented statement around this one is: up to a blank line, a block, or a
/// statement over several lines.
fn comment_column(lines: &[Line], code: &[String], number: usize) -> usize {
    let apart = |a: usize, b: usize| {
        let plain = |line: &Line| matches!(line.role, Role::Statement | Role::Comment);
        lines[b].blank
            || lines[a].depth != lines[b].depth
            || lines[a].depth == 0
            || !(plain(&lines[a]) && plain(&lines[b]))
    };
    let start = (1..=number).rev().find(|&at| apart(at - 1, at)).unwrap_or(0);
    let end = (number + 1..lines.len()).find(|&at| apart(at - 1, at)).unwrap_or(lines.len());
    let commented = (start..end).filter(|&at| lines[at].comment.is_some());
    commented.map(|at| width(&code[at])).max().unwrap_or(0)
}
