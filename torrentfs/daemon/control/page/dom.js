// Elements from plain values. Text is only ever set as text: names of torrents are strangers'.

// h('a.more', { href: '/x', onclick: f }, 'words', element): tag and classes, then properties.
export function h (what, properties = {}, ...children) {
  const [tag, ...classes] = what.split('.')
  const element = document.createElement(tag)
  if (classes.length) element.className = classes.join(' ')
  for (const [name, value] of Object.entries(properties)) {
    if (value === undefined || value === null || value === false) continue
    if (name.startsWith('on')) element.addEventListener(name.slice(2), value)
    else if (name.startsWith('aria-') || name === 'role' || name === 'for' || name === 'scope') element.setAttribute(name, value)
    else element[name] = value
  }
  element.append(...children.filter(child => child !== null && child !== undefined && child !== false))
  return element
}

// Set the text of an element if it is another one: what did not change is not announced.
export function say (element, text) {
  if (element.textContent !== text) element.textContent = text
}

const UNSEEN = /[\u0000-\u001f\u007f-\u009f\u200e\u200f\u202a-\u202e\u2066-\u2069]/g

// A stranger's text without what is not seen, or turns what stands beside it around.
export const clean = text => String(text ?? '').replace(UNSEEN, '\ufffd')

// A dialog that closes by Esc, gives the focus back and removes itself.
export function openDialog (label, ...children) {
  const heading = h('h2', { id: 'dialog-title' }, label)
  const dialog = h('dialog', { 'aria-labelledby': 'dialog-title' }, heading, ...children)
  const before = document.activeElement
  dialog.addEventListener('close', () => {
    dialog.remove()
    if (before?.isConnected) before.focus()
  })
  document.body.append(dialog)
  dialog.showModal()
  return dialog
}

// Keep the rows of `parent` in the order of `values`, one for each `key(value)`; rows are
// {element, update}, made once and then told what is new.
export function keepRows (parent, rows, values, key, make) {
  const wanted = new Set(values.map(key))
  let lost = false // the focus, with a row that goes
  for (const [id, row] of rows) {
    if (wanted.has(id)) continue
    lost ||= row.element.contains(document.activeElement)
    row.element.remove()
    rows.delete(id)
  }
  let place = parent.firstElementChild
  for (const value of values) {
    const id = key(value)
    let row = rows.get(id)
    if (!row) rows.set(id, row = make(value))
    row.update(value)
    if (row.element === place) place = place.nextElementSibling
    else parent.insertBefore(row.element, place)
  }
  if (lost) document.querySelector('main h1')?.focus()
}
