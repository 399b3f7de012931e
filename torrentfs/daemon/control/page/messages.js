// What was done and what went wrong, in words; and what a screen reader is told beside.
import { h, say } from './dom.js'

const place = document.getElementById('messages')
const polite = document.getElementById('polite')
const STAYS = 8000

function show (words, role, ...classes) {
  const message = h(['div', 'message', ...classes].join('.'), { role },
    h('span', {}, words),
    h('button.plain', { type: 'button', 'aria-label': 'Dismiss', onclick: () => message.remove() }, '×'))
  place.append(message)
  while (place.children.length > 6) place.firstElementChild.remove()
  return message
}

// Goes by itself.
export function tell (words) {
  const message = show(words, 'status')
  setTimeout(() => message.remove(), STAYS)
}

// Stays until it is dismissed.
export const complain = words => show(words, 'alert', 'bad')

// For a screen reader only.
export const announce = words => say(polite, words)

// Do it; what goes wrong is told, and the answer is undefined then.
export async function attempt (what, work) {
  try {
    return await work()
  } catch (error) {
    complain(`${what}: ${error.message}`)
  }
}
