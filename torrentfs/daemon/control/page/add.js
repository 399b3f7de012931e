// Adding: a link typed or pasted anywhere, a .torrent chosen or dropped.
import { ask } from './api.js'
import { clean, h } from './dom.js'
import { attempt, complain, tell } from './messages.js'

const LINK = /^(magnet:\?\S+|https?:\/\/\S+|[0-9a-f]{40}|[0-9a-f]{64}|[a-z2-7]{32})$/i
const LARGEST = 512 * 1024 * 1024

const shortened = text => text.length > 60 ? `${text.slice(0, 57)}…` : text

const folder = h('input', { id: 'folder', autocomplete: 'off', placeholder: 'films/new', spellcheck: false })
const source = h('input', {
  id: 'source', autocomplete: 'off', required: true, spellcheck: false, placeholder: 'magnet:?xt=…'
})

function added (torrent) {
  const waits = torrent.state === 'metadata' ? ': its metadata is looked for' : ''
  tell(`Added ${clean(torrent.name) || torrent.key}${waits}`)
}

export function addLink (text) {
  return attempt(`Not added ${shortened(clean(text))}`, async () => {
    const torrent = await ask('POST', '/torrents', { json: { source: text, folder: folder.value } })
    added(torrent)
    return torrent
  })
}

function addFile (file) {
  return attempt(`Not added ${clean(file.name)}`, async () => {
    if (file.size > LARGEST) throw new Error('the file is too large for a .torrent')
    const query = folder.value ? `?folder=${encodeURIComponent(folder.value)}` : ''
    const type = 'application/x-bittorrent'
    added(await ask('POST', `/torrents${query}`, { body: file, type }))
  })
}

async function addFiles (files) {
  for (const file of files) await addFile(file)
}

// Links in a text, one a line. A text that has none is not for us.
function addLinks (text) {
  const found = text.split(/[\r\n]+/).map(line => line.trim()).filter(line => line && !line.startsWith('#'))
  if (!found.length || !found.every(line => LINK.test(line))) return false
  found.reduce((before, link) => before.then(() => addLink(link)), Promise.resolve())
  return true
}

export function makeAddForm () {
  const button = h('button.primary', { type: 'submit' }, 'Add')
  const picker = h('input', {
    id: 'picker', type: 'file', multiple: true, accept: '.torrent,application/x-bittorrent',
    onchange: async () => {
      await addFiles([...picker.files])
      picker.value = ''
    }
  })
  return h('form.add', {
    'aria-label': 'Add a torrent',
    onsubmit: async event => {
      event.preventDefault()
      button.disabled = true
      if (await addLink(source.value.trim())) source.value = ''
      button.disabled = false
      source.focus()
    }
  },
  h('div.field.wide', {}, h('label', { for: 'source' }, 'Magnet link, URL of a .torrent, or info-hash'), source),
  h('div.field', {}, h('label', { for: 'folder' }, 'Folder (optional)'), folder),
  h('div.row', {}, button, h('label.button', { for: 'picker' }, picker, 'Choose .torrent…')),
  h('p.hint', {}, 'Or paste a link anywhere on this page, or drop .torrent files on it.'))
}

const isField = element => element?.closest?.('input, textarea, [contenteditable]')

document.addEventListener('paste', event => {
  const files = [...(event.clipboardData?.files ?? [])]
  if (files.length) return void addFiles(files)
  if (isField(event.target)) return
  if (addLinks(event.clipboardData?.getData('text') ?? '')) event.preventDefault()
})

const overlay = document.getElementById('drop')
// Files anywhere, also on a field, which would open them; links but on a field, which takes them.
const isWanted = event => {
  const types = event.dataTransfer?.types ?? []
  return types.includes('Files') || (!isField(event.target) && (types.includes('text/uri-list') || types.includes('text/plain')))
}

document.addEventListener('dragover', event => {
  if (!isWanted(event)) return
  event.preventDefault()
  overlay.hidden = false
})
document.addEventListener('dragleave', event => { if (!event.relatedTarget) overlay.hidden = true })
document.addEventListener('drop', event => {
  overlay.hidden = true
  if (!isWanted(event)) return
  event.preventDefault()
  const files = [...event.dataTransfer.files]
  const text = event.dataTransfer.getData('text/uri-list') || event.dataTransfer.getData('text/plain')
  if (files.length) addFiles(files)
  else if (!addLinks(text)) complain('What was dropped is neither a .torrent nor a link to one')
})
