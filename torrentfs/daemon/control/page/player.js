// Films and music in the page; what the browser cannot play gets addresses for a player.
import { clean, h, openDialog, say } from './dom.js'

const VIDEO = /\.(mp4|m4v|webm|mkv|mov|avi|ts|m2ts|ogv|mpg|mpeg|wmv|flv)$/i
const AUDIO = /\.(mp3|m4a|m4b|flac|ogg|oga|opus|wav|aac)$/i

export const playable = path => VIDEO.test(path) || AUDIO.test(path)

// An address to copy.
function address (id, label, value) {
  const field = h('input', { id, readOnly: true, value, onfocus: () => field.select() })
  const button = h('button', {
    type: 'button',
    'aria-label': `Copy: ${label}`,
    onclick: async () => {
      try {
        await navigator.clipboard.writeText(value)
        button.textContent = 'Copied'
      } catch {
        field.focus() // selected: the keyboard copies it
      }
    }
  }, 'Copy')
  return h('div.field', {}, h('label', { for: id }, label), h('div.row.tight', {}, field, button))
}

// Why a file does not come, in the server's words; empty when it does come.
async function reason (url) {
  try {
    const answer = await fetch(url, { headers: { range: 'bytes=0-0' } })
    return answer.ok ? '' : (await answer.json()).error
  } catch {
    return 'the mount does not answer'
  }
}

// Plays a file in a dialog. What is returned has its `path`, and `onWaiting(why)`, to be told in words
// why a read of it waits; nothing when none does.
export function play (file, status) {
  const media = h(AUDIO.test(file.path) ? 'audio' : 'video', { controls: true, autoplay: true, preload: 'metadata' })
  const trouble = h('p.bad', { role: 'alert' })
  media.setAttribute('aria-label', clean(file.path))
  media.addEventListener('error', async () => {
    const unplayable = media.error?.code === 3 || media.error?.code === 4
    const words = await reason(file.url)
    trouble.textContent = words
      ? `It cannot be read: ${words}`
      : unplayable
        ? 'This browser cannot play this kind of file. A player can, at one of these addresses:'
        : 'The stream broke off.'
    others.open = true
  })
  const token = status?.http?.match(/its token is in (.*)\)$/)?.[1]
  const others = h('details', {},
    h('summary', {}, 'For mpv, VLC and other programs'),
    address('play-path', 'File in the mount', `${status?.mountpoint ?? ''}/${file.path}`),
    address('play-url', 'URL', new URL(file.url, location.href).href),
    token && h('p.hint', {}, 'The URL asks for a password, which is the token in ', h('code', {}, token), '; any user name does.'))
  const dialog = openDialog(clean(file.path.split('/').pop()), media, trouble, others,
    h('div.row', {}, h('button', { type: 'button', onclick: () => dialog.close() }, 'Close')))
  dialog.classList.add('player')
  dialog.addEventListener('close', () => {
    media.pause()
    media.removeAttribute('src') // or the browser goes on reading
    media.load()
  })
  media.src = file.url
  const waiting = h('p.quiet', { role: 'status' })
  trouble.before(waiting)
  return { path: file.path, onWaiting: why => say(waiting, why ? `It waits: ${clean(why)}` : '') }
}
