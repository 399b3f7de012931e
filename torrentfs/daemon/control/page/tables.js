// Tables with headers that stay usable on a narrow screen: each cell has its column's name. The
// roles are written down since browsers forget them where style makes blocks of rows.
import { h, keepRows, say } from './dom.js'

export class Table {
  // `columns` are [heading, text(value)] or [heading, null] for a cell that `cell(element, value)`
  // makes, and gives a function that is told what is new.
  constructor (caption, columns, key, { cell } = {}) {
    this.columns = columns
    this.key = key
    this.cell = cell
    this.rows = new Map()
    this.body = h('tbody', { role: 'rowgroup' })
    this.none = h('p.quiet')
    this.table = h('table', { role: 'table' }, h('caption.hidden', {}, caption),
      h('thead', { role: 'rowgroup' }, h('tr', { role: 'row' },
        ...columns.map(([heading]) => h('th', { scope: 'col', role: 'columnheader' }, heading)))),
      this.body)
    this.element = h('div', {}, this.table, this.none)
  }

  update (values, none) {
    this.table.hidden = !values.length
    this.none.hidden = values.length > 0
    say(this.none, none)
    keepRows(this.body, this.rows, values, this.key, value => this.make(value))
  }

  make (value) {
    const cells = this.columns.map(([heading, text], n) => {
      const cell = n === 0 ? h('th', { scope: 'row', role: 'rowheader' }) : h('td', { role: 'cell' })
      cell.dataset.column = heading
      const update = text ? next => say(cell, text(next)) : this.cell(cell, value)
      return [cell, update]
    })
    return {
      element: h('tr', { role: 'row' }, ...cells.map(([cell]) => cell)),
      update: next => { for (const [, update] of cells) update(next) }
    }
  }
}
