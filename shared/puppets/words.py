"""The words of the level `shows`: for everything that a caption tells its paraphrases.

Behind a bar stand paraphrases that training captions never have.
"""

Tag = tuple[str, str]
"""What a phrase tells and its value, as ("colour", "red")."""
Choices = tuple[tuple[str, ...], tuple[str, ...]]
"""Paraphrases of training, and held-out ones."""

_TABLE = {
    "person": {
        "man": "man, man, gentleman, guy, fellow, boy, mister, male puppet | chap, bloke",
        "woman": "woman, woman, lady, girl, madam, female puppet | dame, lass",
    },
    "shirt": {"shirt": "shirt, shirt, top, sweater, jumper, pullover, jersey, cardigan | tunic, sweatshirt"},
    "colour": {
        "red": "red, red, scarlet, crimson, cherry red, vermilion | ruby",
        "green": "green, green, emerald, grass green, leaf green | jade",
        "blue": "blue, blue, azure, cobalt, royal blue, navy | sapphire",
        "yellow": "yellow, yellow, golden, lemon, lemon yellow | canary",
    },
    "size": {
        "big": "big, big, large, huge, great, oversized, massive | giant, enormous",
        "small": "small, small, little, tiny, miniature, mini | wee, petite",
    },
    "object": {
        "ball": "ball, ball, rubber ball, toy ball, play ball, beach ball | sphere",
        "bell": "bell, bell, hanging bell, church bell, metal bell, brass bell | chime",
        "drum": "drum, drum, hand drum, floor drum, snare drum, kettledrum | tom",
    },
    "acts": {
        "ball": "bounces, is bouncing, hops, jumps, springs up, leaps, hits the floor | rebounds, bounds",
        "bell": "rings, is ringing, chimes, sounds, tolls, dings, dongs | peals, clangs",
        "drum": "is hit, is struck, is beaten, is played, booms, thumps, is drummed on | is banged, is thumped",
    },
    "count": {
        "1": "once, once, one time, a single time, only once, 1 time | just once",
        "2": "twice, twice, two times, 2 times, two times in all | a couple of times",
        "3": "three times, thrice, 3 times, three times in all | on three occasions",
        "4": "four times, 4 times, four times in all | on four occasions",
        "5": "five times, 5 times, five times in all | on five occasions",
        "6": "six times, 6 times, half a dozen times, six times in all | on six occasions",
    },
    "side": {
        "left": "on the left, at the left, on the left side, to the left, at left | on the left hand side",
        "centre": "in the middle, in the centre, in the center, at centre stage | halfway across",
        "right": "on the right, at the right, on the right side, to the right, at right | on the right hand side",
    },
    "speaking": {
        "True": "is speaking, speaks, talks, is talking, says something, chats, is chatting, tells a story, "
        "holds forth | converses",
        "False": "is silent, says nothing, keeps quiet, stays silent, is quiet, does not speak, listens, "
        "keeps still | is mute",
    },
    "turns": {
        "turns": "speak in turns, talk in turns, take turns speaking, take turns talking, "
        "speak one after the other | alternate in talking"
    },
    "offscreen": {"offscreen": "offscreen, offscreen, unseen, invisible, off camera | out of sight"},
    "warmth": {
        "warm": "warm, warm, amber, cosy, cozy, sunset, candlelit | toasty",
        "cold": "cold, cold, cool, icy, chilly, wintry, bluish | frosty",
    },
    "brightness": {
        "bright": "bright, bright, brilliant, strong, clear, sunny, dazzling | radiant",
        "dark": "dark, dark, dim, low, faint, shadowy, dusky | murky",
    },
    "light": {"light": "light, light, lighting, glow, stage light, lamplight, sheen | illumination"},
    "music": {"music": "music, music, tune, song, melody, background music | soundtrack"},
    "pace": {
        "fast": "fast, fast, quick, lively, upbeat, rapid, swift | brisk",
        "slow": "slow, slow, calm, unhurried, gentle, lazy, leisurely | sluggish",
    },
    "mode": {
        "major": "cheerful, major, happy, merry, joyful, glad | jolly",
        "minor": "sad, minor, mournful, wistful, unhappy, plaintive | sorrowful",
    },
    "drifting": {
        "cloud": "cloud, cloud, white cloud, puffy cloud, fluffy cloud | cloudlet",
        "balloon": "balloon, balloon, toy balloon, party balloon | airship",
    },
    "drifts": {"drifts": "drifts by, floats by, floats past, passes by, glides by, sails past | wafts past"},
}

PHRASES: dict[str, dict[str, Choices]] = {
    name: {
        value: tuple(tuple(p.strip() for p in part.split(",") if p.strip()) for part in text.split("|"))  # type: ignore[misc]
        for value, text in values.items()
    }
    for name, values in _TABLE.items()
}
"""By what is told and its value: the paraphrases; a common one stands there twice."""
TAGS: dict[str, Tag] = {
    phrase: (name, value)
    for name, values in PHRASES.items()
    for value, choices in values.items()
    for phrase in (*choices[0], *choices[1])
}
HELD_OUT = frozenset(phrase for values in PHRASES.values() for _, rare in values.values() for phrase in rare)
"""Paraphrases that training captions never have."""
FILLERS = frozenset([
    "a", "an", "the", "and", "while", "as", "with", "under", "in", "at", "on", "of", "to", "one", "two", "three",
    "four", "person", "people", "conversation", "scene", "description", "empty", "stage", "wearing", "dressed", "there",
    "is", "are", "where", "by", "it",
])  # fmt: skip
"""Words that tell nothing by themselves."""
LONGEST = max(len(phrase.split()) for phrase in TAGS)
VOCABULARY = frozenset(word for phrase in TAGS for word in phrase.split()) | FILLERS
