// What can be done to a torrent.
import { ask, of } from './api.js'
import { clean, h, openDialog } from './dom.js'
import { size } from './format.js'
import { attempt, tell } from './messages.js'

export const name = torrent => clean(torrent.name) || torrent.key

export const setPaused = (torrent, paused) =>
  attempt(paused ? 'Not paused' : 'Not resumed', () => ask('PATCH', of(torrent.key), { json: { paused } }))

// Keep a torrent, a directory of it or a file, and fetch it in the background; or no longer.
export const setPinned = (path, pinned) => attempt(pinned ? 'Not pinned' : 'Not unpinned',
  () => ask('POST', pinned ? '/pins' : '/pins/remove', { json: { path } }))

export const evict = path => attempt('Not dropped', async () => {
  const { freed } = await ask('POST', '/evict', { json: { path } })
  tell(`Freed ${size(freed)}`)
})

export function confirmRemove (torrent) {
  const evict = h('input', { type: 'checkbox', id: 'evict' })
  const remove = h('button.danger', { type: 'submit', value: 'remove' }, 'Remove')
  const form = h('form', { method: 'dialog' },
    h('p', {}, h('bdi', {}, name(torrent)), ' goes from the mount, also for who has its files open.'),
    h('p', {}, evict, h('label', { for: 'evict' }, ' Delete what is cached of it, too')),
    h('div.row', {}, h('button', { type: 'submit', value: 'cancel', autofocus: true }, 'Cancel'), remove))
  const dialog = openDialog('Remove this torrent?', form)
  dialog.addEventListener('close', () => {
    if (dialog.returnValue !== 'remove') return
    attempt('Not removed', async () => {
      await ask('DELETE', `${of(torrent.key)}${evict.checked ? '?evict=true' : ''}`)
      tell(`Removed ${name(torrent)}`)
    })
  })
}
